"""What systemd itself says of the units: verify is silent, and drop-ins are found where it finds them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from supervisor.model.plan import HostPlan, Plan, WorkerPlan
from supervisor.systemd.drop_ins import find_drop_ins
from supervisor.systemd.units import SLICE, Unit, UnitPlaces, render, slice_unit, worker_unit
from support.unit_plans import EXAMPLE, RICH
from support.vm.machine import Machine

UNITS: Final = Path(__file__).resolve().parents[2] / "units"
AT: Final = "/run/systemd/system"
GIB: Final = 1 << 30
# The product is not there: something that can be executed stands for it.
PROGRAMS: Final = re.compile(r"/opt/gpu-supervisor/bin/gpu-supervisor|llama-server(?= llama-server)")


def shipped() -> list[Unit]:
    return [Unit(path.name, path.read_text()) for path in sorted(UNITS.glob("*.*"))]


def put(machine: Machine, units: Sequence[Unit]) -> None:
    for unit in units:
        machine.put(f"{AT}/{unit.name}", PROGRAMS.sub("/bin/true", unit.text))
    machine.ok("systemctl daemon-reload")


@pytest.fixture
def shelf(machine: Machine) -> Machine:
    """Return the machine; what a test puts among its units goes with the test."""
    machine.ok(f"rm -f {AT}/gpusupervisor.slice")
    return machine


def test_verify_has_nothing_to_say_of_what_is_rendered(shelf: Machine) -> None:
    bare = WorkerPlan("bare", "bare", ("sleep", "1"))
    units = render(Plan({"bare": bare, "chat": EXAMPLE, "rich-2": RICH}), 16 * GIB, UnitPlaces())
    put(shelf, units)
    done = shelf.run(["systemd-analyze", "verify", "--man=no", *(unit.name for unit in units)])
    assert (done.rc, done.out, done.err) == (0, "", "")
    assert [unit.name for unit in units] == [
        "gpu-workers.slice",
        "gpu-worker-bare.service",
        "gpu-worker-chat.service",
        "gpu-worker-rich-2.service",
    ]


def test_verify_has_nothing_to_say_of_what_is_shipped(shelf: Machine) -> None:
    units = shipped()
    put(shelf, units)
    done = shelf.run(["systemd-analyze", "verify", "--man=no", *(unit.name for unit in units)])
    assert (done.rc, done.out, done.err) == (0, "", "")
    assert "gpu-supervisor.service" in {unit.name for unit in units}
    shelf.ok(f"rm {AT}/gpusupervisor.slice")


def test_verify_would_have_something_to_say_of_a_wrong_directive(shelf: Machine) -> None:
    unit = worker_unit(RICH, RICH.settings, UnitPlaces())
    put(shelf, [Unit(unit.name, unit.text.replace("OOMPolicy=kill", "OOMPolicy=kil"))])
    done = shelf.run(["systemd-analyze", "verify", "--man=no", unit.name])
    assert "Failed to parse OOM policy, ignoring: kil" in done.err


@pytest.mark.parametrize(
    ("unit", "most"),
    [
        # 3.0 but for CAP_SYSLOG, ProtectKernelLogs=no and /dev/kmsg: its log has the Xids and OOM kills.
        ("gpu-supervisor.service", 3.2),
        ("gpu-supervisor-web.service", 1.5),
    ],
)
def test_the_services_expose_little(shelf: Machine, unit: str, most: float) -> None:
    put(shelf, [each for each in shipped() if each.name == unit])
    told = shelf.ok(["systemd-analyze", "security", "--no-pager", unit])
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)
    assert level is not None
    assert float(level[1]) <= most, told


def test_systemd_has_taken_every_limit(shelf: Machine) -> None:
    unit = worker_unit(RICH, RICH.settings, UnitPlaces())
    put(shelf, [unit])
    wanted = {
        "MemoryHigh": str(2 * GIB),
        "MemoryMax": str(3 * GIB),
        "MemorySwapMax": "4096",
        "CPUQuotaPerSecUSec": "125ms",
        "KillMode": "mixed",
        "KillSignal": "40",
        "TimeoutStopUSec": "31s",
        "TimeoutStartUSec": "10min 30s",
        "Restart": "no",
        "OOMPolicy": "kill",
        "OOMScoreAdjust": "500",
        "Slice": "gpu-workers.slice",
        "User": "daemon",
        "Group": "games",
        "WorkingDirectory": "/var/lib/%n a ",
        "EnvironmentFiles": "/etc/os-release (ignore_errors=no)",
        "UnsetEnvironment": "GGML_CUDA_ENABLE_UNIFIED_MEMORY",
        "LimitMEMLOCK": "infinity",
        "DevicePolicy": "auto",
        "StartLimitIntervalUSec": "0",
        "LoadState": "loaded",
    }
    told = shelf.ok(["systemctl", "show", unit.name, *(f"--property={name}" for name in wanted)])
    found: dict[str, str] = {}
    for line in told.splitlines():
        name, _, value = line.partition("=")
        found.setdefault(name, value)
    assert found == wanted
    capabilities = shelf.ok(
        ["systemctl", "show", "--value", "--property=CapabilityBoundingSet", unit.name]
    ).split()
    assert "cap_sys_admin" in capabilities
    assert "cap_sys_boot" not in capabilities


def test_the_slice_that_the_daemon_writes_wins_over_the_one_that_is_shipped(shelf: Machine) -> None:
    there = "/usr/local/lib/systemd/system/gpu-workers.slice"
    shelf.put(there, (UNITS / SLICE).read_text())
    put(shelf, [slice_unit(HostPlan(critical_available_bytes=256 << 20), 1 << 30)])
    told = shelf.ok(
        "systemctl start gpu-workers.slice; "
        "cd /sys/fs/cgroup/gpu.slice/gpu-workers.slice; cat memory.high memory.max"
    )
    assert told.split() == [str(768 << 20), str(896 << 20)]
    put(shelf, [slice_unit(HostPlan(critical_available_bytes=128 << 20), 1 << 30)])
    told = shelf.ok("cd /sys/fs/cgroup/gpu.slice/gpu-workers.slice; cat memory.high memory.max")
    assert told.split() == [str(896 << 20), str(960 << 20)]
    shelf.ok(f"rm -f {there}")


def test_the_supervisor_s_memory_is_protected_all_the_way_up(shelf: Machine) -> None:
    put(shelf, [each for each in shipped() if each.name == "gpusupervisor.slice"])
    shelf.put(
        f"{AT}/gpu-stand-in.service",
        "[Service]\nSlice=gpusupervisor.slice\nMemoryMin=64M\nExecStart=/bin/sleep 1000\n",
    )
    shelf.ok("systemctl daemon-reload; systemctl start gpu-stand-in")
    told = shelf.ok(
        "cd /sys/fs/cgroup/gpusupervisor.slice; cat memory.min gpu-stand-in.service/memory.min cpu.weight"
    )
    assert told.split() == [str(64 << 20), str(64 << 20), "1000"]
    shelf.ok(
        "systemctl stop gpu-stand-in gpusupervisor.slice; "
        f"rm {AT}/gpusupervisor.slice {AT}/gpu-stand-in.service"
    )


def test_drop_ins_are_those_that_systemd_reads(shelf: Machine, tmp_path: Path) -> None:
    name = "gpu-worker-rich-2.service"
    put(shelf, [worker_unit(RICH, RICH.settings, UnitPlaces())])
    laid = (
        f"etc/systemd/system/{name}.d/50.conf",
        f"usr/lib/systemd/system/{name}.d/50.conf",
        f"run/systemd/system/{name}.d/60.conf",
        f"usr/local/lib/systemd/system/{name}.d/10.conf",
        "etc/systemd/system/gpu-worker-.service.d/20.conf",
        "etc/systemd/system/gpu-worker-rich-.service.d/30.conf",
        "usr/lib/systemd/system/gpu-.service.d/50.conf",
        "run/systemd/system/gpu-worker-.service.d/60.conf",
        "etc/systemd/system/service.d/15.conf",
        "etc/systemd/system/service.d/20.conf",
        "etc/systemd/system/gpu-worker-other.service.d/70.conf",
        f"etc/systemd/system/{name}.d/no.txt",
    )
    for path in laid:
        shelf.put(f"/{path}", "[Service]\nEnvironment=LAID=1\n")
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    shelf.ok("systemctl daemon-reload")
    told = shelf.ok(["systemctl", "show", "--value", "--property=DropInPaths", name]).split()
    shelf.ok(["rm", *(f"/{path}" for path in laid)])
    shelf.ok(["rmdir", "--ignore-fail-on-non-empty", *{f"/{Path(path).parent}" for path in laid}])
    assert told == [f"/{path.relative_to(tmp_path)}" for path in find_drop_ins(name, tmp_path)]
    assert len(told) == 6
