"""gpu-supervisor installed from a checkout as a person would, on a real systemd, first to last.

One test, since each step stands on the one before, and pip takes ten times as long in the machine as outside.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from support import wheelhouse
from support.vm.machine import Done, Machine

CHECKOUT: Final = Path(__file__).resolve().parents[2]
PARTS: Final = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "supervisor",
    "requirements",
    "scripts",
    "units",
    "etc",
)
THERE: Final = "/srv/checkout"
CONFIG: Final = "/etc/gpu-supervisor/config.yaml"
EDITED: Final = """\
# edited by hand
host: {critical_available: 64M, warn_available: 96M}
workers:
  sleeper: {command: [sleep, infinity]}
"""
CHANGE: Final = "# a newer version"
INSTALL_S: Final = 500.0  # some 120 s on a machine that does little else

Require = Callable[[object, str], None]


@pytest.fixture(scope="session")
def wheels(pytestconfig: pytest.Config, require: Require) -> Path:
    """Return the pinned packages for Debian 12's Python."""
    why = "not downloaded (pytest --install, or scripts/test, does it)"
    if pytestconfig.getoption("--install"):
        try:
            return wheelhouse.download("3.11")
        except RuntimeError as error:
            why = str(error)
    found = wheelhouse.wheels("3.11")
    require(found.is_dir(), f"the pinned packages: {why}")
    return found


@pytest.fixture
def target(bare: Machine, wheels: Path, tmp_path: Path) -> Iterator[Machine]:
    """Return a machine with a checkout and its packages, and nothing of ours installed before and after."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for part in PARTS:
        if (CHECKOUT / part).is_dir():
            shutil.copytree(CHECKOUT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(CHECKOUT / part, copy / part)
    bare.put_tree(copy, THERE)
    bare.put_tree(wheels, "/srv/wheels")
    yield bare
    bare.run([f"{THERE}/scripts/install.sh", "--uninstall", "--purge"], timeout_s=120)
    bare.ok(f"rm -rf {THERE} /srv/wheels")


def install(machine: Machine, *words: str) -> Done:
    return machine.run(
        [f"{THERE}/scripts/install.sh", "--wheels", "/srv/wheels", *words], timeout_s=INSTALL_S
    )


def restart(machine: Machine, *words: str) -> Done:
    return machine.run([f"{THERE}/scripts/restart_service.sh", *words], timeout_s=180)


def main_pid(machine: Machine) -> int:
    return int(machine.ok("systemctl show --property=MainPID --value gpu-supervisor.service"))


def sleeper(machine: Machine) -> int:
    """Return the pid of the worker, once it is ready."""
    pid = machine.until_phase("sleeper", "ready")["pid"]
    assert isinstance(pid, int)
    return pid


@pytest.mark.timeout(1200)
def test_it_is_installed_used_updated_and_removed(target: Machine) -> None:
    it_is_installed(target)
    everything_is_found_where_a_person_looks(target)
    daemon, worker = it_is_started_with_a_worker(target)
    the_same_again_leaves_all_running(target, daemon, worker)
    a_restart_leaves_the_workers_running(target, worker)
    a_bad_configuration_stops_no_one(target)
    an_update_leaves_the_workers_running(target, worker)
    the_workers_are_stopped_where_that_is_asked_for(target)
    it_is_removed(target)


def it_is_installed(machine: Machine) -> None:
    done = install(machine)
    assert done.rc == 0, done.out + done.err
    assert "==> installed: gpu-supervisor 0.1.0 (Python 3.11." in done.out
    assert "sudo systemctl start gpu-supervisor" in done.out
    assert machine.ok("systemctl is-enabled gpu-supervisor.service") == "enabled\n"
    assert machine.run("systemctl is-active gpu-supervisor.service").out == "inactive\n"
    machine.ok("getent group gpu-supervisor")
    assert machine.ok(f"git -C {THERE} status 2>/dev/null; ls {THERE}").split() == sorted(PARTS)
    # Also to those who are not root.
    assert machine.ok("setpriv --reuid nobody gpu-supervisor version").startswith("gpu-supervisor 0.1.0 ")


def everything_is_found_where_a_person_looks(machine: Machine) -> None:
    assert machine.ok("command -v gpu-supervisor") == "/usr/local/bin/gpu-supervisor\n"
    assert "gpu-supervisor run" in machine.ok("MANPAGER=cat man gpu-supervisor")
    assert machine.ok("man --where gpu-supervisor.yaml").endswith("/man5/gpu-supervisor.yaml.5\n")
    loads = "source /usr/share/bash-completion/bash_completion; _completion_loader gpu-supervisor"
    assert (
        machine.ok(["bash", "-c", f"{loads}; complete -p gpu-supervisor"])
        == "complete -F _gpu_supervisor gpu-supervisor\n"
    )
    units = "/usr/local/lib/systemd/system"
    shown = "systemctl show --property=FragmentPath --value"
    assert machine.ok(f"{shown} gpu-supervisor.service") == f"{units}/gpu-supervisor.service\n"
    assert machine.ok(f"{shown} gpu-workers.slice") == f"{units}/gpu-workers.slice\n"
    verified = machine.run(f"systemd-analyze verify {units}/gpu-supervisor.service {units}/gpu-workers.slice")
    assert (verified.rc, verified.err) == (0, "")
    # The slice that the daemon generates wins over the one that is shipped.
    generated = "/run/systemd/system/gpu-workers.slice"
    machine.put(generated, "[Slice]\nMemoryMax=123M\n")
    machine.ok("systemctl daemon-reload")
    assert machine.ok(f"{shown} gpu-workers.slice") == f"{generated}\n"
    machine.ok(f"rm {generated} && systemctl daemon-reload")


def it_is_started_with_a_worker(machine: Machine) -> tuple[int, int]:
    machine.put(CONFIG, EDITED)
    machine.ok("gpu-supervisor check-config && systemctl start gpu-supervisor", timeout_s=120)
    return main_pid(machine), sleeper(machine)


def the_same_again_leaves_all_running(machine: Machine, daemon: int, worker: int) -> None:
    done = install(machine)
    assert done.rc == 0, done.out + done.err
    assert "is made already" in done.out
    assert "what runs is this version, and runs on" in done.out
    assert machine.get(CONFIG).decode() == EDITED
    assert (main_pid(machine), sleeper(machine)) == (daemon, worker)


def a_restart_leaves_the_workers_running(machine: Machine, worker: int) -> None:
    daemon = main_pid(machine)
    done = restart(machine)
    assert done.rc == 0, done.out + done.err
    assert "sleeper" in done.out  # the status
    assert "journalctl -u gpu-supervisor -f" in done.out
    assert main_pid(machine) not in (0, daemon)
    assert sleeper(machine) == worker


def a_bad_configuration_stops_no_one(machine: Machine) -> None:
    daemon, worker = main_pid(machine), sleeper(machine)
    machine.put(CONFIG, "workers: {sleeper: {command: 1.5, colour: red}}\n")
    done = restart(machine)
    assert done.rc == 78
    assert f"{CONFIG}:1: workers.sleeper.colour" in done.out
    assert done.err.splitlines()[-1] == (
        "restart_service.sh: cannot restart: the configuration is refused (see above);"
        " the daemon that runs, and its workers, were left alone"
    )
    # An update, too, stops before it has changed anything.
    change(machine)
    done = install(machine)
    assert done.rc == 78
    assert "is refused by the new version" in done.err
    assert CHANGE not in machine.ok("systemctl cat gpu-supervisor.service")
    machine.put(CONFIG, EDITED)
    assert (main_pid(machine), sleeper(machine)) == (daemon, worker)


def change(machine: Machine) -> None:
    """Make the checkout a newer one, in a part that needs no second environment."""
    machine.ok(f"echo '{CHANGE}' >>{THERE}/units/gpu-supervisor.service")


def an_update_leaves_the_workers_running(machine: Machine, worker: int) -> None:
    daemon = main_pid(machine)
    done = install(machine)
    assert done.rc == 0, done.out + done.err
    assert CHANGE in machine.ok("systemctl cat gpu-supervisor.service")
    assert main_pid(machine) != daemon
    assert sleeper(machine) == worker
    assert machine.get(CONFIG).decode() == EDITED


def the_workers_are_stopped_where_that_is_asked_for(machine: Machine) -> None:
    worker = sleeper(machine)
    done = restart(machine, "--stop-workers")
    assert done.rc == 0, done.out + done.err
    assert sleeper(machine) != worker
    assert machine.run(["kill", "-0", str(worker)]).rc != 0


def it_is_removed(machine: Machine) -> None:
    worker = sleeper(machine)
    done = machine.run([f"{THERE}/scripts/install.sh", "--uninstall"], timeout_s=120)
    assert done.rc == 0, done.out + done.err
    assert "kept: /etc/gpu-supervisor /var/lib/gpu-supervisor and the group" in done.out
    assert machine.run(["kill", "-0", str(worker)]).rc != 0
    assert machine.get(CONFIG).decode() == EDITED
    assert machine.run("systemctl cat gpu-supervisor.service gpu-worker-sleeper.service").rc != 0
    ours = "( -name *gpu-supervisor* -o -name *gpu-worker* )"
    left = machine.ok(
        f"find / -xdev ( -path /proc -o -path /srv -o -path /var/tmp ) -prune -o {ours} -print".split(),
        timeout_s=120,
    )
    assert sorted(left.split()) == ["/etc/gpu-supervisor", "/var/lib/gpu-supervisor"]
    left = machine.ok(f"find /run -path /run/systemd/units -prune -o {ours} -print".split())
    assert left == ""
    done = machine.run([f"{THERE}/scripts/install.sh", "--uninstall", "--purge"], timeout_s=120)
    assert done.rc == 0, done.out + done.err
    assert machine.run("ls -d /etc/gpu-supervisor /var/lib/gpu-supervisor").out == ""
    assert machine.run("getent group gpu-supervisor").rc == 2
