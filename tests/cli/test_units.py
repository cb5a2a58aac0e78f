import os
from pathlib import Path

import pytest

from support.command_line import gpu_supervisor

CONFIG = """\
host: {critical_available: 1G}
workers:
  chat:
    command: [serve, --port, "{port}", "100%"]
    settings: {port: 8081}
    replicas: 2
    memory: {max: 9G}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


def test_every_unit_is_printed_below_its_path(config: Path) -> None:
    ran = gpu_supervisor("units", "render", "--config", str(config))
    assert (ran.code, ran.err) == (0, "")
    heads = [line for line in ran.out.splitlines() if line.startswith("# /run/systemd/system/")]
    assert heads == [
        "# /run/systemd/system/gpu-workers.slice",
        "# /run/systemd/system/gpu-worker-chat-1.service",
        "# /run/systemd/system/gpu-worker-chat-2.service",
    ]
    assert 'ExecStart=:@serve serve --port 8082 "100%%"\n' in ran.out
    assert ran.out.count(f"\nMemoryMax={9 << 30}\n") == 2


def test_units_are_written_into_a_directory_that_need_not_exist(config: Path, tmp_path: Path) -> None:
    there = tmp_path / "a" / "b"
    ran = gpu_supervisor("units", "render", "--config", str(config), "--output", str(there))
    names = ["gpu-workers.slice", "gpu-worker-chat-1.service", "gpu-worker-chat-2.service"]
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [str(there / name) for name in names]
    assert {path.name for path in there.iterdir()} == {*names}
    printed = gpu_supervisor("units", "render", "--config", str(config)).out
    for name in names:
        assert f"# /run/systemd/system/{name}\n{(there / name).read_text()}" in printed


def test_the_slice_is_for_this_machine(config: Path) -> None:
    total_kib = next(
        int(line.split()[1])
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemTotal:")
    )
    out = gpu_supervisor("units", "render", "--config", str(config)).out
    assert f"MemoryHigh={max(total_kib * 512, total_kib * 1024 - (1 << 30))}\n" in out


def test_the_configuration_of_the_machine_is_the_default(config: Path) -> None:
    ran = gpu_supervisor("units", "render", env={"CONFIGURATION_DIRECTORY": str(config.parent)})
    assert ran.code == 0
    assert "# /run/systemd/system/gpu-worker-chat-1.service\n" in ran.out


def test_a_wrong_configuration_is_78_with_every_fault(config: Path) -> None:
    config.write_text("workers:\n  chat: {comand: a}\n")
    ran = gpu_supervisor("units", "render", "--config", str(config))
    faults = ran.out.splitlines()
    assert ran.code == 78
    assert all(line.startswith(f"{config}:") for line in faults)
    assert ran.err == f"gpu-supervisor: cannot render units: {config} has {len(faults)} faults\n"


def test_what_systemd_cannot_be_told_is_78_and_said(config: Path) -> None:
    config.write_text("workers:\n  chat: {command: [-serve]}\n")
    ran = gpu_supervisor("units", "render", "--config", str(config))
    assert ran.code == 78
    assert ran.err == (
        "gpu-supervisor: cannot render units: "
        "chat: its program '-serve' begins with -: write its whole path\n"
    )


def test_a_directory_that_cannot_be_made_is_said(config: Path) -> None:
    ran = gpu_supervisor("units", "render", "--config", str(config), "--output", f"{config}/x")
    assert ran.code == 1
    assert ran.err.startswith("gpu-supervisor: cannot render units: ")
    assert str(config) in ran.err


@pytest.mark.parametrize("action", ["apply", "remove"])
def test_output_goes_with_render_only(config: Path, action: str) -> None:
    ran = gpu_supervisor("units", action, "--config", str(config), "--output", "x")
    assert (ran.code, ran.err) == (2, f"gpu-supervisor: cannot {action} units: --output goes with render\n")


@pytest.mark.parametrize("action", ["apply", "remove"])
def test_without_root_nothing_is_changed(action: str) -> None:
    if os.geteuid() == 0:
        pytest.skip("this is root; tests/system/test_units_commands.py asks as another user")
    ran = gpu_supervisor("units", action)
    assert (ran.code, ran.err) == (1, f"gpu-supervisor: cannot {action} units: it needs root (use sudo)\n")


def test_an_unknown_action_is_a_usage_error() -> None:
    ran = gpu_supervisor("units", "destroy")
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1
