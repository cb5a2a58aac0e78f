"""What workers print, in a real journal."""

import json

from support.vm.machine import Machine

PYTHON = "/opt/gpu-supervisor/bin/python"
UNIT = """[Service]
Type=oneshot
# Journald looks up the invocation of a unit when it takes a line of it: not after its end, then.
RemainAfterExit=yes
ExecStart=/bin/sh -c 'echo life $$(cat /run/life) says; echo hello >&2'
"""
# As the daemon does it: the last lines of all lives and of the last one.
DAEMON = """
import json, sys
from supervisor.act.journal_output import JournalOutput

output = JournalOutput()
print(json.dumps([output.tail("chat", 3), output.tail("chat", 40, sys.argv[1]), output.tail("other", 40)]))
"""


def two_lives(machine: Machine) -> str:
    """Have a worker's unit live twice; return the invocation of the second life."""
    machine.put("/run/systemd/system/gpu-worker-chat.service", UNIT)
    machine.ok("systemctl daemon-reload")
    for life in ("1", "2"):
        machine.ok(f"echo {life} >/run/life; systemctl restart gpu-worker-chat; journalctl --sync")
    invocation: str = machine.journal("-u", "gpu-worker-chat", "MESSAGE=hello")[-1]["_SYSTEMD_INVOCATION_ID"]
    return invocation


def end(machine: Machine) -> None:
    machine.ok("systemctl stop gpu-worker-chat; rm /run/systemd/system/gpu-worker-chat.service")
    machine.ok("systemctl daemon-reload")


def test_the_daemon_reads_the_last_lines_and_those_of_its_commands(installed: Machine) -> None:
    invocation = two_lives(installed)
    command = "systemd-run --quiet --wait --unit=gpu-drain-{} echo 2 requests"
    installed.ok(f"{command.format('chat')}; {command.format('chat-2')}")
    told = json.loads(installed.ok([PYTHON, "-c", DAEMON, invocation]))
    assert told == [
        ["life 2 says", "hello", "2 requests"],
        ["life 2 says", "hello"],
        [],
    ]
    end(installed)


def test_logs_are_read_without_the_daemon_by_whoever_may_read_the_journal(installed: Machine) -> None:
    two_lives(installed)
    shown = installed.run("gpu-supervisor logs chat -n 3")
    assert (shown.rc, shown.out) == (0, "hello\nlife 2 says\nhello\n")
    assert shown.err == "gpu-supervisor: the daemon is not running; this is from its last run\n"
    followed = installed.run("timeout --preserve-status -s INT 5 gpu-supervisor logs chat -f -n 1")
    assert (followed.rc, followed.out) == (130, "hello\n")
    as_nobody = "setpriv --reuid 65534 --regid 65534"
    refused = installed.run(f"{as_nobody} --clear-groups gpu-supervisor logs chat")
    assert (refused.rc, refused.out) == (3, "")
    allowed = installed.run(f"{as_nobody} --groups systemd-journal gpu-supervisor logs chat -n 1")
    assert (allowed.rc, allowed.out) == (0, "hello\n")
    end(installed)
