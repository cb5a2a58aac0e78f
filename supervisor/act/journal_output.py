"""The output of workers that are services of systemd: the journal of their unit."""

import asyncio
import contextlib
import os
import socket
import time
from pathlib import Path
from typing import Final

from supervisor.act.journal_pipe import JournalPipe
from supervisor.act.journalctl import SEARCH, printed_by, run_journalctl
from supervisor.act.output import TAIL_BYTES, last_lines
from supervisor.systemd.units import unit_name

__all__ = ["JournalOutput"]

SOCKET: Final = Path("/run/systemd/journal/socket")
TAIL_S: Final = 5.0
SYNC_S: Final = 2.0


class JournalOutput:
    """Reads what worker units print, and adds what our own commands print for them.

    A stream to journald belongs to the cgroup of whoever writes into it, whatever unit its header
    names, and our commands run in the daemon's. So they write to a pipe, and each line is sent on as an
    entry about the worker's unit (OBJECT_SYSTEMD_UNIT=, from root), which `journalctl --unit` shows too.
    """

    def __init__(self, journal: Path = SOCKET, search: str = SEARCH) -> None:
        """Send to the socket `journal`, and find journalctl in the directories of `search`."""
        self._journal = journal
        self._search = search

    def path(self, worker: str) -> None:
        """Return None: no file holds the output."""
        del worker

    def open(self, worker: str) -> int:
        """Return the write end of a pipe to the worker's journal; see `Output`. In a running event loop."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as undo:
            sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            undo.callback(sender.close)
            sender.connect(os.fspath(self._journal))
            reader, writer = os.pipe2(os.O_CLOEXEC)
            undo.pop_all()
        os.set_blocking(reader, False)
        pipe = JournalPipe(reader, sender, worker)

        def pass_on() -> None:
            if not pipe.pass_on():
                loop.remove_reader(reader)

        loop.add_reader(reader, pass_on)
        return writer

    def tail(self, worker: str, lines: int, invocation: str | None = None) -> tuple[str, ...]:
        """Return the last lines, of one life where `invocation` is given; see `Output`. 5 s at most."""
        if lines <= 0:
            return ()
        begun_s = time.monotonic()
        with contextlib.suppress(OSError):  # what was printed last may still be on its way to the journal
            run_journalctl(("--sync",), TAIL_BYTES, begun_s + SYNC_S, self._search)
        words = (f"--lines={lines}", *printed_by(unit_name(worker), invocation))
        return last_lines(run_journalctl(words, TAIL_BYTES, begun_s + TAIL_S, self._search), lines)
