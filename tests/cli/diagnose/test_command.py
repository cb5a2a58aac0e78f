"""`diagnose` as it is typed: with a daemon and without, with a GPU, a broken file, and no permission."""

import ctypes
import grp
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.command_line import environment, gpu_supervisor
from support.control_desk import StoryDesk, everything, worker
from support.daemon import Daemon, hostile
from support.fakenvml.state import GIB, Call, FakeDriver

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
NOBODY = 65534

Found = dict[str, dict[str, Any]]


def by_id(text: str) -> Found:
    """Return the findings of `--json` by their ids, the last of each."""
    return {each["id"]: each for each in json.loads(text)["findings"]}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("workers: {chat: {command: sleep 1}}\n")
    return path


def test_with_nothing_there_it_tells_so_and_nothing_is_a_traceback(tmp_path: Path) -> None:
    ran = gpu_supervisor(
        "diagnose",
        "--verbose",
        control=tmp_path / "control",
        env={"CONFIGURATION_DIRECTORY": str(tmp_path), "PATH": str(tmp_path)},
    )
    assert ran.err == ""
    assert "warning  daemon-not-running\n" in ran.out
    assert "warning  config-absent\n" in ran.out
    assert "info     worker-not-looked-at\n    not looked at: the daemon was not asked" in ran.out
    assert "info     unit-limits-not-looked-at\n    not looked at: there is no systemctl in PATH\n" in ran.out
    assert "ok       disk-full\n" in ran.out
    assert ran.out.splitlines()[-1].endswith(" good")


def test_a_daemon_that_does_not_run_although_workers_are_wanted_is_critical(
    config: Path, tmp_path: Path
) -> None:
    ran = gpu_supervisor("diagnose", "--json", "--config", str(config), control=tmp_path / "control")
    assert (ran.code, ran.err) == (1, "")
    finding = by_id(ran.out)["daemon-not-running"]
    assert finding["severity"] == "critical"
    assert finding["runbook"] == "docs/runbooks/supervisor-stale.md"


def test_a_file_that_is_broken_is_told_with_its_lines(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("workers:\n  chat: {command: [\n")
    ran = gpu_supervisor("diagnose", "--json", "--config", str(broken), control=tmp_path / "control")
    found = by_id(ran.out)
    assert (ran.code, ran.err) == (1, "")
    assert found["config-broken"]["severity"] == "critical"
    assert found["config-broken"]["lines"][0].startswith(f"{broken}:")
    assert (
        found["caps-not-looked-at"]["seen"] == "not looked at: there is no good configuration to compare with"
    )


def test_a_real_daemon_with_a_held_worker(daemon: Daemon) -> None:
    daemon.configure(
        f"""
launcher: direct
workers:
  good: {{command: {hostile("sleeper")}, ready: {{after: 100ms}}, memory: {{cap: 4G}}}}
  bad: {{command: [sh, -c, "echo last words; exit 3"], restart: {{first: 100ms, starts: 2, within: 1min}}}}
"""
    )
    daemon.start()
    daemon.until_phase("bad", "held")
    daemon.until_phase("good", "ready")
    ran = daemon.run("diagnose", "--json")
    found = by_id(ran.stdout)
    assert (ran.returncode, ran.stderr) == (1, "")
    held = found["worker-held"]
    assert (held["severity"], held["subject"]) == ("critical", "worker bad")
    assert "2 failures within 1min" in held["seen"]
    assert held["do"].endswith("then `gpu-supervisor reset bad`")
    assert held["lines"] == ["last words", "last words"]
    assert (found["worker"]["severity"], found["worker"]["subject"]) == ("ok", "worker good")
    assert found["daemon-stale"]["severity"] == "ok"
    assert found["daemon-version"]["severity"] == "ok"
    assert found["config-not-in-force"]["severity"] == "ok"
    assert found["control-socket-open"]["severity"] == "ok"

    daemon.configure(daemon.config.read_text().replace("cap: 4G", "cap: 5G"))
    found = by_id(daemon.run("diagnose", "--json").stdout)
    assert found["config-not-in-force"]["seen"].endswith("it differs for good")


def test_a_bundle_has_the_incidents_and_the_output_also_when_the_daemon_is_gone(daemon: Daemon) -> None:
    daemon.configure(
        "launcher: direct\n"
        "workers: {bad: {command: [sh, -c, 'echo last words; exit 3'],"
        " restart: {first: 100ms, starts: 2, within: 1min}}}\n"
    )
    daemon.start()
    daemon.until_phase("bad", "held")
    daemon.stop()
    bundle = daemon.folder / "report.tar.gz"
    ran = daemon.run("diagnose", "--config", str(daemon.config), "--bundle", str(bundle))
    assert (ran.returncode, ran.stderr) == (1, "")
    assert "critical daemon-not-running\n" in ran.stdout
    with tarfile.open(bundle) as archive:
        texts = {
            member.name.partition("/")[2]: file.read().decode()
            for member in archive
            if (file := archive.extractfile(member)) is not None
        }
    told = json.loads(texts["incidents.json"])
    assert {each["worker"] for each in told["newest"]} == {"bad"}
    assert told["details"][0]["incident"]["id"] == told["newest"][0]["id"]
    assert texts["logs/bad.log"].splitlines()[0] == "last words"
    assert json.loads(texts["status.json"])["missing"].startswith("the daemon is not running")


def test_strangers_on_a_gpu_are_told_from_workers(daemon: Daemon, driver: FakeDriver) -> None:
    driver.list_gpus(1)
    daemon.environment.update(driver.environment)
    daemon.configure(
        f"launcher: direct\nworkers: {{mine: {{command: {hostile('sleeper')}, ready: {{after: 100ms}}}}}}\n"
    )
    daemon.start()
    mine = daemon.until_phase("mine", "ready")["pid"]
    stranger = os.getpid()
    driver.gpu(0).used = 78 * GIB
    driver.gpu(0).run((mine, 10 * GIB), (stranger, 67 * GIB))
    found = by_id(daemon.run("diagnose", "--json").stdout)
    full = found["gpu-memory-exhausted"]
    assert (full["severity"], full["subject"]) == ("critical", "GPU 0")
    assert full["seen"] == "78G of 80G used, 97.5%"
    assert full["lines"][0].startswith(f"67G  pid {stranger}, a stranger, ")
    assert full["lines"][1] == f"10G  pid {mine}, worker mine"
    assert found["gpu-stranger"]["severity"] == "warning"
    assert found["gpu-stranger"]["seen"].startswith("67G held by 1 process that is no worker")


def test_a_library_that_does_not_fit_the_kernel_module_is_critical(
    driver: FakeDriver, config: Path, tmp_path: Path
) -> None:
    driver.fail(Call.INIT, 18)
    ran = gpu_supervisor(
        "diagnose", "--json", "--config", str(config), control=tmp_path / "control", env=driver.environment
    )
    found = by_id(ran.out)
    assert found["driver-library-mismatch"]["severity"] == "critical"
    assert "modprobe nvidia" in found["driver-library-mismatch"]["do"]


@pytest.mark.slow
def test_a_driver_that_hangs_is_waited_for_with_a_deadline(
    driver: FakeDriver, config: Path, tmp_path: Path
) -> None:
    driver.hang(Call.INIT)
    words = ("diagnose", "--json", "--config", str(config))
    ran = subprocess.run(
        [sys.executable, "-m", "supervisor.cli.main", *words],
        env=environment(GPU_SUPERVISOR_CONTROL=str(tmp_path / "control"), **driver.environment),
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert ran.stderr == ""
    assert "did not answer within 20 s" in by_id(ran.stdout)["driver-no-gpu"]["seen"]


def without_the_rights_of_root() -> None:
    """Have a program of root obey the modes of files: what it may do is then up to their owners."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "PR_CAPBSET_DROP")


def test_a_user_who_may_not_ask_is_told_what_gives_access(
    control: Path, desk: StoryDesk, config: Path, require: Callable[[object, str], None]
) -> None:
    del desk
    require(os.geteuid() == 0, "only root can give files to another user")
    for path, mode in ((control, 0o660), (config, 0o600)):
        os.chown(path, NOBODY, NOBODY)
        path.chmod(mode)
    ran = subprocess.run(
        [sys.executable, "-m", "supervisor.cli.main", "diagnose", "--json", "--config", str(config)],
        env=environment(GPU_SUPERVISOR_CONTROL=str(control)),
        preexec_fn=without_the_rights_of_root,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ran.stderr == ""
    found = by_id(ran.stdout)
    assert found["control-socket-refused"]["severity"] == "warning"
    group = grp.getgrgid(NOBODY).gr_name
    assert f"`sudo usermod --append --groups {group} root`" in found["control-socket-refused"]["do"]
    assert found["daemon-not-looked-at"]["seen"].startswith(f"not looked at: no permission for {control}")
    assert found["config-not-looked-at"]["seen"].endswith("cannot read it: Permission denied")
    assert "daemon-not-running" not in found


def test_a_daemon_of_another_version_whose_loop_stands_still_is_told(
    control: Path, desk: StoryDesk, config: Path
) -> None:
    desk.now = msgspec.structs.replace(
        everything(worker("chat")), version="0.0.9", dry_run=True, history="in memory only: disk full"
    )
    found = by_id(gpu_supervisor("diagnose", "--json", "--config", str(config), control=control).out)
    assert found["daemon-stale"]["severity"] == "critical"
    assert found["daemon-version"]["seen"] == "0.0.9 is running, and 0.1.0 is installed"
    assert found["daemon-dry-run"]["severity"] == "warning"
    assert found["history-in-memory"]["severity"] == "warning"


def test_a_bundle_is_private_and_its_contents_are_listed(
    control: Path, desk: StoryDesk, tmp_path: Path
) -> None:
    desk.logs["chat"] = str(tmp_path / "logs/chat.log")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/chat.log").write_text("one line\n")
    bundle = tmp_path / "report.tar.gz"
    ran = gpu_supervisor("diagnose", "--bundle", str(bundle), control=control)
    assert ran.err == ""
    assert bundle.stat().st_mode & 0o777 == 0o600
    with tarfile.open(bundle) as archive:
        names = [member.name.partition("/")[2] for member in archive]
        tops = {member.name.partition("/")[0] for member in archive}
    assert [name for name in names if not name.startswith("logs/")] == [
        "findings.json",
        "versions.json",
        "status.json",
        "incidents.json",
        "config.yaml",
        "files.json",
        "machine.json",
        "kernel.log",
    ]
    assert len(tops) == 1
    assert [name for name in names if f"    {name} " not in ran.out] == []


def test_a_bundle_never_takes_the_place_of_a_file(tmp_path: Path) -> None:
    bundle = tmp_path / "report.tar.gz"
    bundle.write_text("mine")
    ran = gpu_supervisor("diagnose", "--bundle", str(bundle), control=tmp_path / "control")
    assert (ran.code, ran.err) == (
        1,
        f"gpu-supervisor: cannot write the bundle {bundle}: it is there already\n",
    )
    assert bundle.read_text() == "mine"


def test_a_bundle_that_does_not_fit_is_one_error_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    bundle = folder / "report.tar.gz"
    command = f'ulimit -f 1; exec "{sys.executable}" -m supervisor.cli.main diagnose --bundle "{bundle}"'
    ran = subprocess.run(
        ["/bin/bash", "-c", command],
        env=environment(GPU_SUPERVISOR_CONTROL=str(tmp_path / "control")),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (
        1,
        f"gpu-supervisor: cannot write the bundle {bundle}: File too large\n",
    )
    assert list(folder.iterdir()) == []


def test_a_bundle_for_a_directory_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    bundle = tmp_path / "none/report.tar.gz"
    ran = gpu_supervisor("diagnose", "--bundle", str(bundle), control=tmp_path / "control")
    assert ran.code == 1
    assert ran.err == f"gpu-supervisor: cannot write the bundle {bundle}: No such file or directory\n"


def test_the_help_tells_the_exit_code() -> None:
    assert "exit code 0 if nothing is critical, 1" in " ".join(
        gpu_supervisor("diagnose", "--help").out.split()
    )
