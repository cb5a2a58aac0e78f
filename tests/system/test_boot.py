"""The machine's restart: who is started again, who stays down, and a configuration that is wrong."""

import pytest

from support.vm.machine import Machine
from support.vm.supervised import SLEEP, configure, daemon, lines, lived, main_pid, processes, start

# Fails, and is held after two failures.
LOOPS = "{restart: {first: 100ms, max: 100ms, starts: 2, within: 1h}, command: [sh, -c, 'exit 3']}"


def up_again(machine: Machine, *names: str) -> None:
    """Wait until the daemon, which is enabled, has these workers ready."""
    machine.until("systemctl is-active gpu-supervisor", "the daemon was started with the machine", 180)
    for name in names:
        machine.until_phase(name, "ready")


@pytest.mark.timeout(900)
def test_a_reboot_brings_back_who_is_wanted_and_leaves_the_others_down(installed: Machine) -> None:
    configure(installed, {"chat": SLEEP, "halted": SLEEP, "loops": LOOPS, "other": SLEEP})
    start(installed, "chat", "halted", "other")
    installed.until_phase("loops", "held")
    installed.ok("gpu-supervisor stop halted", timeout_s=120)
    assert set(lived(installed)) == {"chat", "other"}
    for hard in (False, True):
        if hard:
            installed.ok("sync")
        installed.reboot(hard=hard)
        up_again(installed, "chat", "other")
        now = lived(installed)
        assert set(now) == {"chat", "other"}
        assert {one.restarts for one in now.values()} == {0}
        assert processes(installed) == {one.pid for one in now.values()}
        assert installed.worker("halted")["phase"] == "stopped"
        held = installed.worker("loops")
        assert held["phase"] == "held"
        assert "2 failures" in held["held"]
        assert not installed.run("systemctl --failed --plain --no-legend").out

    installed.ok("gpu-supervisor start halted", timeout_s=120)
    assert lived(installed)["halted"].pid == main_pid(installed, "halted")


def test_a_wrong_configuration_at_boot_is_told_once_and_starts_nothing(installed: Machine) -> None:
    installed.put("/etc/gpu-supervisor/config.yaml", "workers:\n  chat: {comand: sleep 4323}\n")
    installed.reboot()
    installed.until("systemctl is-failed gpu-supervisor", "the daemon has given up", 180)
    assert installed.ok("systemctl show --property=ExecMainStatus --value gpu-supervisor") == "78\n"
    assert installed.ok("systemctl show --property=NRestarts --value gpu-supervisor") == "0\n"
    assert daemon(installed) == 0
    assert any(
        line.startswith("gpu-supervisor: /etc/gpu-supervisor/config.yaml:2: workers.chat.comand: ")
        for line in lines(installed, "-b", "-u", "gpu-supervisor")
    )
    assert installed.ok("systemctl list-units --all --plain --no-legend 'gpu-worker-*'") == ""

    configure(installed, {"chat": SLEEP})
    start(installed, "chat")
    assert lived(installed) == {"chat": (main_pid(installed, "chat"), 0)}
