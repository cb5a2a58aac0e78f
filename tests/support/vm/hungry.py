"""Workers in the test machine that lie still until they are told to take memory; and what is said of them."""

import json
from pathlib import Path
from typing import Any, Final

from support.vm.machine import Machine

CONFIG: Final = "/etc/gpu-supervisor/config.yaml"
CGROUPS: Final = "/sys/fs/cgroup/gpu.slice/gpu-workers.slice"
PROGRAMS: Final = Path(__file__).parents[1] / "workers"
HOSTILE: Final = "/usr/bin/python3 -S -E /srv/workers/hostile.py"

Document = dict[str, Any]


def hungry(name: str, takes: str, program: str = HOSTILE) -> str:
    """Return the command of a worker that becomes a hungry program once it is told by `feed`.

    In its next life it lies still again.
    """
    told = f"/run/feed-{name}"
    script = f"until [ -e {told} ]; do sleep 0.2; done; rm {told}; exec {program} {takes}"
    return json.dumps(["/bin/sh", "-c", script])


def feed(machine: Machine, *names: str) -> None:
    """Have workers take their memory."""
    machine.ok(["touch", *(f"/run/feed-{name}" for name in names)])


def begin(machine: Machine, config: str, *workers: str) -> dict[str, Document]:
    """Start the daemon with a configuration; return what is said of its workers once they are ready."""
    machine.ok("rm -f /run/feed-*")
    machine.put_tree(PROGRAMS, "/srv/workers")
    machine.put(CONFIG, config)
    machine.ok("systemctl start gpu-supervisor", timeout_s=120)
    return {name: machine.until_phase(name, "ready") for name in workers}


def until_restarted(machine: Machine, name: str, before: Document) -> Document:
    """Wait until a worker is ready in another life; without asking the daemon, who has enough to do."""
    main_pid = f"$(systemctl show --property=MainPID --value gpu-worker-{name}.service)"
    another = f'pid={main_pid}; [ "$pid" != 0 ] && [ "$pid" != {before["pid"]} ]'
    machine.until(another, f"{name} has been restarted")
    seen = machine.until_phase(name, "ready")
    assert seen["run"] != before["run"]
    return seen


def lives_on(machine: Machine, name: str, before: Document) -> None:
    """Check that a worker is in the life that it was in."""
    after = machine.worker(name)
    assert (after["phase"], after["pid"], after["restarts"]) == ("ready", before["pid"], before["restarts"])


def incident(machine: Machine, name: str) -> Document:
    """Return all that the history holds of a worker's newest incident."""
    listed = json.loads(machine.ok(["gpu-supervisor", "history", name, "--json"]))["incidents"]
    shown: Document = json.loads(machine.ok(["gpu-supervisor", "history", "show", listed[0]["id"], "--json"]))
    return shown


def told_by_the_daemon(machine: Machine, name: str, cause: str) -> dict[str, Document]:
    """Return the daemon's lines about a worker for one cause, by what they tell, in their order."""
    lines = machine.journal("_SYSTEMD_UNIT=gpu-supervisor.service", f"WORKER={name}", f"CAUSE={cause}")
    return {line["EVENT"]: line for line in lines}


def events(machine: Machine, name: str) -> dict[str, int]:
    """Return what the kernel counts for a worker's cgroup (memory.events)."""
    words = machine.ok(f"cat {CGROUPS}/gpu-worker-{name}.service/memory.events").split()
    return {key: int(count) for key, count in zip(words[::2], words[1::2], strict=True)}
