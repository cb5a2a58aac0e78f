"""A supervisor with workers on a machine: configured, started, asked who lives, killed."""

from typing import Final, NamedTuple

from support.vm.machine import Machine

CONFIG: Final = "/etc/gpu-supervisor/config.yaml"
DROP_IN: Final = "/etc/systemd/system/gpu-supervisor.service.d/test.conf"
# The daemon is not to be started while this is there.
CLOSED: Final = "/etc/gpu-supervisor/closed"
START_S: Final = 180.0

# The machine is a small one, and nothing here is about its memory.
ROOM: Final = "host: {warn_available: 64M, critical_available: 32M}\n"
SLEEP: Final = "{command: sleep 4323}"


class Lived(NamedTuple):
    """Which process a worker is, and how often it was restarted."""

    pid: int
    restarts: int


def configure(machine: Machine, workers: dict[str, str], more: str = "") -> None:
    """Write the configuration: each worker as YAML in one line."""
    lines = "".join(f"  {name}: {worker}\n" for name, worker in workers.items())
    machine.put(CONFIG, f"{ROOM}{more}workers:\n{lines}")


def start(machine: Machine, *names: str) -> None:
    """Start the daemon, and wait until these workers are ready."""
    machine.ok("systemctl start gpu-supervisor", timeout_s=START_S)
    for name in names:
        machine.until_phase(name, "ready")


def lived(machine: Machine) -> dict[str, Lived]:
    """Return what the supervisor says of the life of each worker that runs."""
    workers = machine.status()["workers"]
    return {one["name"]: Lived(one["pid"], one["restarts"]) for one in workers if one["pid"] is not None}


def daemon(machine: Machine) -> int:
    """Return the main process of the daemon; 0 for none."""
    return int(machine.ok("systemctl show --property=MainPID --value gpu-supervisor"))


def main_pid(machine: Machine, name: str) -> int:
    """Return the main process of a worker's unit, as systemd has it; 0 for none."""
    return int(machine.ok(f"systemctl show --property=MainPID --value gpu-worker-{name}"))


def await_another(machine: Machine, former: int) -> int:
    """Wait until another daemon answers than the former; return its pid."""
    machine.until(lambda: daemon(machine) not in {0, former}, "another daemon runs")
    machine.until("gpu-supervisor status", "it answers", START_S)
    return daemon(machine)


def kill_daemon(machine: Machine) -> int:
    """Kill the daemon and wait until systemd has started another that answers; return the former."""
    former = daemon(machine)
    machine.ok(["kill", "-KILL", str(former)])
    await_another(machine, former)
    return former


def change_service(machine: Machine, lines: str) -> None:
    """Have a drop-in for the daemon's service."""
    machine.put(DROP_IN, f"[Service]\n{lines}\n")
    machine.ok("systemctl daemon-reload")


def processes(machine: Machine) -> set[int]:
    """Return every process in the workers' cgroups."""
    found = machine.ok("cat /sys/fs/cgroup/gpu.slice/gpu-workers.slice/*/cgroup.procs 2>/dev/null || :")
    return {int(pid) for pid in found.split()}


def lines(machine: Machine, *words: str) -> list[str]:
    """Return the messages of the journal's entries that match, since the test began."""
    return [str(entry["MESSAGE"]) for entry in machine.journal(*words)]
