"""Commands that are told of alerts: what they get, what they may not do, and what is said when they fail."""

import asyncio
import os
import sys
import time
from pathlib import Path

from supervisor.act.alert_command import Errand, run
from support.daemon import alive

PYTHON = sys.executable


def ran(*command: str, deadline_s: float = 20.0, document: bytes = b"{}", **variables: str) -> str | None:
    pids: set[int] = set()
    why = asyncio.run(run(Errand(command, document, variables), pids, deadline_s))
    assert pids == set()
    return why


def test_a_command_gets_the_alert_on_its_stdin_and_in_its_environment(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = (
        "import os, sys, pathlib; pathlib.Path(sys.argv[1]).write_text("
        "sys.stdin.read() + os.environ['GPU_SUPERVISOR_ALERT_NAME'] + str(os.getsid(0) == os.getpid()))"
    )
    document = b'{"name": "A"}\n' + b" " * 200_000
    assert ran(PYTHON, "-c", code, str(out), document=document, GPU_SUPERVISOR_ALERT_NAME="A") is None
    assert out.read_text().split() == ['{"name":', '"A"}', "ATrue"]


def test_a_command_is_never_handed_to_a_shell(tmp_path: Path) -> None:
    assert ran("/bin/echo", f"$(touch {tmp_path}/made); touch {tmp_path}/made") is None
    assert list(tmp_path.iterdir()) == []


def test_a_command_sees_nothing_of_the_daemon_s_own_environment(tmp_path: Path) -> None:
    out = tmp_path / "out"
    os.environ["HUNTER2"] = os.environ["NOTIFY_SOCKET"] = "secret"
    try:
        code = "import os, sys, pathlib; pathlib.Path(sys.argv[1]).write_text(' '.join(os.environ))"
        assert ran(PYTHON, "-c", code, str(out)) is None
    finally:
        del os.environ["HUNTER2"], os.environ["NOTIFY_SOCKET"]
    seen = set(out.read_text().split())
    assert "PATH" in seen
    assert seen.isdisjoint({"HUNTER2", "NOTIFY_SOCKET"})


def test_the_last_line_says_why_a_command_failed() -> None:
    code = "import sys; print('x' * 500_000, flush=True);"
    code += "print('no such pager', file=sys.stderr); print(); sys.exit(3)"
    assert ran(PYTHON, "-c", code) == "it exited with 3: no such pager"
    assert ran("/bin/false") == "it exited with 1"


def test_a_command_that_is_not_there_is_said_so() -> None:
    assert ran("/nowhere/page") == "cannot run /nowhere/page: there is no such file"


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    script = tmp_path / "page"
    script.write_text(f"#!/bin/sh\ntrap '' TERM\nsleep 600 &\necho $$ $! > {note}\necho still at it\nwait\n")
    script.chmod(0o755)
    assert ran(str(script), deadline_s=1.0) == "it did not end within 1 s: still at it"
    pids = [int(word) for word in note.read_text().split()]
    assert len(pids) == 2
    deadline_s = time.monotonic() + 10
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_what_a_command_leaves_behind_is_ended_and_not_waited_for(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = tmp_path / "page"
    script.write_text(f"#!/bin/sh\nsleep 600 &\necho $! > {note}\n")
    script.chmod(0o755)
    began_s = time.monotonic()
    assert ran(str(script), deadline_s=50.0) is None
    assert time.monotonic() - began_s < 50
    deadline_s = time.monotonic() + 10
    while alive(int(note.read_text())):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
