"""A worker that reports, on a real systemd: known by its cgroup, also after a restart of the daemon."""

from pathlib import Path
from typing import Final

from support.vm.machine import Machine
from support.vm.supervised import configure, start

REPORTER: Final = Path(__file__).parents[1] / "support" / "workers" / "reporter.py"
PYTHON: Final = "/opt/gpu-supervisor/bin/python"
HEARD: Final = "/tmp/heard"
SOCKET: Final = "/run/gpu-supervisor/notify/chat.sock"
LIES: Final = f"""
import socket
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'{{"v": 1, "level": "extreme"}}', '{SOCKET}')
"""


def test_a_unit_is_heard_and_told_across_a_restart_of_the_daemon_and_a_stranger_is_not(
    installed: Machine,
) -> None:
    installed.put("/srv/reporter.py", REPORTER.read_text(encoding="utf-8"))
    command = f"[{PYTHON}, -S, /srv/reporter.py, --child, --drain, '0', --life, '1800', --heard, {HEARD}]"
    rule = "ready: {notify: true}, heartbeat: 30s, drain: {guard: true, timeout: 5min}"
    configure(installed, {"chat": f"{{user: daemon, command: {command}, {rule}}}"})
    start(installed, "chat")
    installed.until(lambda: _level(installed) == "high", "it reports")
    installed.ok([PYTHON, "-c", LIES])
    installed.until(
        lambda: bool(installed.journal("-u", "gpu-supervisor", "--grep=is no process of it")), "it is told"
    )
    assert _level(installed) == "high"

    installed.ok("systemctl restart gpu-supervisor")
    installed.until_phase("chat", "ready")
    installed.until(lambda: _level(installed) == "high", "it reports again")
    installed.ok("gpu-supervisor stop chat --reason upgrade")
    assert '"drain": {"reason": "upgrade", "within_s": 300.0}' in installed.ok(f"cat {HEARD}")


def test_the_last_words_of_a_unit_whose_context_is_lost_are_heard(installed: Machine) -> None:
    installed.put("/srv/reporter.py", REPORTER.read_text(encoding="utf-8"))
    command = f"[{PYTHON}, -S, /srv/reporter.py, --poison, device-side assert triggered]"
    rule = "user: daemon, restart: {first: 1s, starts: 2}"
    configure(installed, {"lost": f"{{{rule}, command: {command}}}"})
    start(installed)
    installed.until_phase("lost", "held")  # its budget is spent by two ends of the kind
    [lost] = installed.status()["workers"]
    assert lost["last_restart"]["cause"] == "gpu-fault"
    assert "its context on the GPU was lost: device-side assert triggered" in lost["last_restart"]["reason"]


def _level(machine: Machine) -> str | None:
    [chat] = machine.status()["workers"]
    level: str | None = None if chat["reported"] is None else chat["reported"]["level"]
    return level
