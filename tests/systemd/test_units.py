"""The texts of units, word for word; tests/system/test_units_*.py show that systemd understands them so."""

import signal
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from supervisor.model.plan import HostPlan, MemoryCaps, Plan, WorkerPlan
from supervisor.systemd.units import (
    SLICE,
    UnitPlaces,
    render,
    slice_unit,
    unit_name,
    worker_of,
    worker_unit,
)
from support.unit_plans import EXAMPLE

UNITS = Path(__file__).resolve().parents[2] / "units"
GIB = 1 << 30
PLACES = UnitPlaces()


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def rendered(**changes: Any) -> list[str]:  # noqa: ANN401 - the fields of a plan
    plan = structs.replace(WorkerPlan("chat", "chat", ("true",)), **changes)
    return lines(worker_unit(plan, plan.settings, PLACES).text)


def values(key: str, **changes: Any) -> list[str]:  # noqa: ANN401
    return [line.partition("=")[2] for line in rendered(**changes) if line.startswith(f"{key}=")]


def test_the_example_that_is_shipped_is_what_the_renderer_writes() -> None:
    unit = worker_unit(EXAMPLE, EXAMPLE.settings, PLACES)
    assert (UNITS / "example" / unit.name).read_text() == unit.text


def test_a_unit_is_named_after_its_worker_and_back() -> None:
    assert unit_name("chat-2") == "gpu-worker-chat-2.service"
    assert worker_of("gpu-worker-chat-2.service") == "chat-2"


@pytest.mark.parametrize(
    "name",
    ["ssh.service", "gpu-worker-.service", "gpu-worker-chat.slice", "gpu-worker-chat@x.service", SLICE],
)
def test_other_units_are_no_workers(name: str) -> None:
    assert worker_of(name) is None


def test_a_plan_is_its_slice_and_each_worker_and_replica_with_its_own_settings() -> None:
    workers = {
        name: WorkerPlan(name, "chat", ("serve", "--port", "{port}"), number, settings={"port": 8081})
        for number, name in enumerate(("chat-1", "chat-2"), 1)
    }
    units = render(Plan(workers), 16 * GIB, PLACES)
    assert [unit.name for unit in units] == [SLICE, "gpu-worker-chat-1.service", "gpu-worker-chat-2.service"]
    assert "ExecStart=:@serve serve --port 8081\n" in units[1].text
    assert "ExecStart=:@serve serve --port 8082\n" in units[2].text


def test_a_life_runs_with_the_settings_of_its_rung() -> None:
    plan = WorkerPlan("chat", "chat", ("serve", "{layers}"), settings={"layers": 25})
    assert "ExecStart=:@serve serve 8\n" in worker_unit(plan, {"layers": 8}, PLACES).text


def test_the_same_plan_gives_the_same_text() -> None:
    assert worker_unit(EXAMPLE, EXAMPLE.settings, PLACES) == worker_unit(
        EXAMPLE, dict(EXAMPLE.settings), PLACES
    )


@pytest.mark.parametrize(
    ("total", "critical", "high", "highest"),
    [
        (64 * GIB, 2 * GIB, 62 * GIB, 63 * GIB),
        (64 * GIB, 0, 64 * GIB, 64 * GIB),
        (4 * GIB, 3 * GIB, 2 * GIB, 5 * GIB // 2),
        (1 * GIB, 4 * GIB, GIB // 2, GIB // 2),
    ],
    ids=["usual", "no emergency", "small machine", "tiny machine"],
)
def test_all_workers_together_leave_the_machine_its_reserve(
    total: int, critical: int, high: int, highest: int
) -> None:
    text = slice_unit(HostPlan(critical_available_bytes=critical), total).text
    assert f"\nMemoryHigh={high}\n" in text
    assert f"\nMemoryMax={highest}\n" in text


def test_a_worker_without_limits_has_no_limits_but_those_of_all() -> None:
    assert [line for line in rendered() if line.startswith(("Memory", "CPU"))] == []
    assert values("Slice") == ["gpu-workers.slice"]
    assert values("TasksMax") == ["25%"]


def test_the_kernels_limits_are_those_of_the_plan() -> None:
    caps = MemoryCaps(8 * GIB, 9 * GIB, 10 * GIB, 0)
    found = rendered(memory=caps, cpu_quota=6.0)
    assert f"MemoryHigh={9 * GIB}" in found
    assert f"MemoryMax={10 * GIB}" in found
    assert "MemorySwapMax=0" in found
    assert "CPUQuota=600%" in found


@pytest.mark.parametrize(
    ("cores", "written"), [(0.5, "50%"), (0.125, "12.5%"), (0.00001, "0.01%"), (0.0, "0.01%")]
)
def test_a_quota_is_written_so_that_systemd_does_not_ignore_it(cores: float, written: str) -> None:
    assert values("CPUQuota", cpu_quota=cores) == [written]


def test_a_limit_of_nothing_is_still_a_limit() -> None:
    assert values("MemoryMax", memory=MemoryCaps(max_bytes=0)) == ["1"]


def test_systemd_acts_later_than_the_daemon() -> None:
    assert values("TimeoutStopSec", stop_timeout_s=120.0) == ["270"]
    assert values("TimeoutStopSec", stop_timeout_s=0.25) == ["31"]
    assert values("TimeoutStartSec", start_timeout_s=300.0) == ["630"]


@pytest.mark.parametrize(
    ("number", "written"),
    [(15, "SIGTERM"), (signal.SIGQUIT, "SIGQUIT"), (34, "34"), (40, "40"), (64, "64")],
)
def test_every_signal_can_be_the_stop_signal(number: int, written: str) -> None:
    assert values("KillSignal", stop_signal=number) == [written]


def test_a_worker_of_nobody_in_particular_is_roots_and_has_a_home() -> None:
    assert values("User") == ["root"]
    assert values("Group") == []
    assert values("User", user="007") == ["7"]
    assert values("Group", user="llm", group="a%b") == ["a%%b"]


def test_what_changes_from_life_to_life_is_read_last() -> None:
    files = values("EnvironmentFile", environment_file="/etc/a b/*.env")
    assert files == [r"/etc/a b/\*.env", "-/run/gpu-supervisor/units/chat.env"]
    text = worker_unit(EXAMPLE, EXAMPLE.settings, UnitPlaces("/run/x%y")).text
    assert "EnvironmentFile=-/run/x%%y/chat.env\n" in text


def test_gpus_are_numbered_as_nvml_numbers_them_unless_the_plan_says_otherwise() -> None:
    assert values("Environment") == ["CUDA_DEVICE_ORDER=PCI_BUS_ID"]
    told = {"CUDA_DEVICE_ORDER": "FASTEST_FIRST", "A": "{n} x"}
    found = values("Environment", environment=told, settings={"n": 3})
    assert found == ["CUDA_DEVICE_ORDER=FASTEST_FIRST", '"A=3 x"']


def test_gpu_memory_that_spills_into_ram_is_off_where_there_is_a_gpu_cap() -> None:
    assert values("UnsetEnvironment") == []
    assert values("UnsetEnvironment", vram_cap_bytes=GIB) == ["GGML_CUDA_ENABLE_UNIFIED_MEMORY"]


def test_a_program_is_looked_for_where_the_worker_s_path_says() -> None:
    assert values("ExecSearchPath") == []
    assert values("ExecSearchPath", environment={"PATH": "/opt/a/bin:rel:/usr/bin"}) == [
        "/opt/a/bin:/usr/bin"
    ]
    assert values("ExecSearchPath", environment={"PATH": "rel"}) == []


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"command": ("a", "{x}")}, "word 1 of its command cannot be filled: {x} names no setting"),
        ({"environment": {"A": "{"}}, "environment.A cannot be filled: a lone {"),
        ({"command": ("a", "b\0")}, "word 1 of its command holds a NUL character"),
        ({"directory": "/a\nb"}, "directory '/a\\nb' has a line break"),
        ({"user": " x"}, "user ' x' is no name that systemd takes"),
    ],
)
def test_what_cannot_be_told_is_refused_in_words(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=r"^") as refused:
        rendered(**changes)
    assert str(refused.value).startswith(why)


def test_a_plan_says_whose_unit_cannot_be_written() -> None:
    plan = Plan({"chat": WorkerPlan("chat", "chat", ("a", "{x}"))})
    with pytest.raises(ValueError, match=r"^chat: word 1 of its command cannot be filled: "):
        render(plan, GIB, PLACES)


def test_every_directive_of_the_shipped_units_has_a_comment_above_it_or_above_its_group() -> None:
    bare = [
        f"{path.name}: {line}"
        for path in sorted(UNITS.glob("*.*"))
        for group in path.read_text().split("\n\n")[1:]
        for line in _uncommented(group)
    ]
    assert bare == []


def _uncommented(group: str) -> list[str]:
    """Return directives with no comment before them since the head of their section or blank line."""
    found: list[str] = []
    commented = False
    for line in group.splitlines():
        if line.startswith("#"):
            commented = True
        elif not commented and not line.startswith(("[", "Description=", "Documentation=", "WantedBy=")):
            found.append(line)
    return found
