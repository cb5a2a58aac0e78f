"""Who may speak for a worker: a process of its own, by what the kernel says of the sender."""

import socket
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from supervisor.sense.procfs import read_stat

_CREDENTIALS: Final = struct.Struct("iII")  # struct ucred of unix(7): pid, uid, gid
CREDENTIALS_ROOM: Final = socket.CMSG_SPACE(_CREDENTIALS.size)
"""For credentials, and nothing beside them: descriptors that are sent along are closed by the kernel."""
DEEPEST: Final = 32  # parents that are climbed from a process that is not known yet
KNOWN_S: Final = 2.0  # in which no pid comes round again
MOST_KNOWN: Final = 64  # senders of one worker

Verify = Callable[[str, int], bool]
"""Say whether a process, by its pid, is one of a run's. Raises OSError where that cannot be told."""


def sender_of(ancillary: Sequence[tuple[int, int, bytes]]) -> int:
    """Return the pid of a message's sender as the kernel saw it; 0 where it cannot be seen from here."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(data) == _CREDENTIALS.size:
            pid: int = _CREDENTIALS.unpack(data)[0]
            return pid
    return 0


class Senders:
    """The processes that have spoken for one run, so that each is looked up once in two seconds."""

    def __init__(self, run: str, verify: Verify) -> None:
        """Begin without any."""
        self._run = run
        self._verify = verify
        self._known: dict[int, float] = {}  # by pid: until when it is believed

    def may_speak(self, pid: int) -> bool:
        """Say whether a process is one of this run's; where that cannot be told, it is none."""
        now_s = time.monotonic()
        if self._known.get(pid, 0.0) > now_s:
            return True
        try:
            found = pid > 0 and self._verify(self._run, pid)
        except OSError:
            return False
        if not found:
            return False
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[pid] = now_s + KNOWN_S
        return True


def in_tree(run_of: Callable[[int], str | None], run: str, pid: int, proc: Path) -> bool:
    """Say whether a process or one of its parents is known to be of this run, and no nearer one of another.

    `run_of` tells of the processes that are known. Raises OSError.
    """
    at = pid
    for _ in range(DEEPEST):
        found = run_of(at)
        if found is not None:
            return found == run
        stat = read_stat(proc, at)
        if stat is None or stat.ppid <= 1:
            return False
        at = stat.ppid
    return False


def in_cgroup(cgroup: Path, found: Path | None) -> bool:
    """Say whether `found`, a process' cgroup, is this one or below it."""
    return found is not None and found.is_relative_to(cgroup)
