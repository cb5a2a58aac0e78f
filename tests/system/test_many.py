"""Many workers on a real systemd. The times are printed, and nothing is judged by them."""

import time
from typing import Final

import pytest

from support.vm.machine import Machine
from support.vm.supervised import configure, daemon, lines, lived, processes, start

COUNT: Final = 200
NAMES: Final = frozenset(f"many-{number}" for number in range(1, COUNT + 1))
MANY: Final = f"{{replicas: {COUNT}, stop_timeout: 2min, command: [sh, -c, 'exec sleep 4323']}}"


def phases(machine: Machine) -> dict[str, int]:
    """Count the workers by phase."""
    counted: dict[str, int] = {}
    for worker in machine.status()["workers"]:
        counted[worker["phase"]] = counted.get(worker["phase"], 0) + 1
    return counted


def reloads(machine: Machine) -> int:
    """Count how often systemd has read its units again."""
    return len(lines(machine, "_PID=1", "--grep=^Reloading\\.$"))


@pytest.mark.timeout(900)
def test_two_hundred_workers_are_started_and_stopped(installed: Machine) -> None:
    configure(installed, {"many": MANY})
    earlier = reloads(installed)
    began_s = time.monotonic()
    start(installed)
    up_s = time.monotonic() - began_s
    installed.until(lambda: phases(installed) == {"ready": COUNT}, "all are ready", 400)
    ready_s = time.monotonic() - began_s
    before = lived(installed)
    assert set(before) == NAMES
    assert {one.restarts for one in before.values()} == {0}
    assert len(processes(installed)) == COUNT
    assert processes(installed) == {one.pid for one in before.values()}
    former = daemon(installed)
    assert reloads(installed) == earlier + 1  # one for all of them
    used = installed.ok("systemctl show --property=CPUUsageNSec --value gpu-supervisor init.scope")

    began_s = time.monotonic()
    installed.ok("gpu-supervisor stop --no-wait --all", timeout_s=120)
    installed.until(lambda: phases(installed) == {"stopped": COUNT}, "all are stopped", 400)
    stopped_s = time.monotonic() - began_s
    assert processes(installed) == set()
    assert installed.ok("systemctl list-units --plain --no-legend 'gpu-worker-*'") == ""
    assert daemon(installed) == former
    assert installed.ok("systemctl show --property=NRestarts --value gpu-supervisor") == "0\n"
    print(  # noqa: T201 - for people
        f"{COUNT} workers: daemon up {up_s:.1f} s, all ready {ready_s:.1f} s, all stopped {stopped_s:.1f} s,"
        f" CPU of the daemon and of systemd {' and '.join(used.split())} ns until ready"
    )
