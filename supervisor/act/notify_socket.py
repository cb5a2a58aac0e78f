"""The NOTIFY_SOCKET of each worker: where it says that it is ready, alive or broken."""

import asyncio
import contextlib
import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from supervisor.act.notify_message import merge, parse_notification
from supervisor.model.news import Notified

LONGEST_PATH: Final = 107  # bytes; sun_path of unix(7) less its final NUL
LARGEST_MESSAGE: Final = 8192  # bytes; a longer one is ignored as a whole
MESSAGES_A_WAKE: Final = 16
PAUSE_S: Final = 0.05  # between two wakes: a worker that floods its socket waits, the loop does not


class SocketStore(Protocol):
    """Keeps sockets while one daemon ends and the next begins."""

    def take(self, name: str) -> socket.socket | None:
        """Return what an earlier daemon had kept, once."""
        ...

    def keep(self, name: str, kept: socket.socket) -> None:
        """Have a socket kept."""
        ...

    def drop(self, name: str) -> None:
        """Have it kept no longer."""
        ...


class NotifySockets:
    """One datagram socket for each running worker. Used in the thread of its event loop only.

    A worker that outlives a daemon goes on reporting to the next. What it says in between waits in the
    socket where there is a store that keeps it; else the socket is bound again under the same path, and
    what is said before is refused. Descriptors that are sent along
    (BARRIER=1, FDSTORE=1) are closed by the kernel since no room is given for them, which is what
    a barrier waits for.
    """

    def __init__(
        self,
        directory: Path,
        tell: Callable[[Notified], None],
        loop: asyncio.AbstractEventLoop,
        store: SocketStore | None = None,
    ) -> None:
        """Keep the sockets in `directory`, made where it is missing: workers of any user may enter it."""
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._directory = directory
        self._tell = tell
        self._loop = loop
        self._store = store
        self._bound: dict[str, tuple[str, socket.socket, Path]] = {}

    def path(self, worker: str) -> Path:
        """Return where the worker's socket is; a name that would not fit is replaced by its hash."""
        path = self._directory / f"{worker}.sock"
        if len(os.fsencode(path)) <= LONGEST_PATH:
            return path
        return self._directory / hashlib.sha256(worker.encode()).hexdigest()[:12]

    def bind(self, worker: str, run: str, uid: int | None = None) -> Path:
        """Listen for one run of a worker, whose user alone (and root) may write; return the path.

        Raises OSError, also where the directory's path leaves no room for a name.
        """
        self.drop(worker)
        path = self.path(worker)
        if len(os.fsencode(path)) > LONGEST_PATH:
            raise OSError(f"cannot bind {path}: a socket's path has at most {LONGEST_PATH} bytes")
        bound = self._kept(run, path) or _bound_at(path, uid)
        if self._store is not None:
            self._store.keep(run, bound)
        self._bound[worker] = (run, bound, path)
        self._loop.add_reader(bound, self._readable, worker, run)
        return path

    def drop(self, worker: str) -> None:
        """Listen to a worker no longer, and remove its socket."""
        if worker in self._bound:
            run, bound, path = self._bound.pop(worker)
            self._loop.remove_reader(bound)
            if self._store is not None:
                self._store.drop(run)
            bound.close()
            with contextlib.suppress(OSError):
                path.unlink()

    def close(self) -> None:
        """Listen to nobody any longer; the sockets' paths stay for the next daemon to bind."""
        for _, bound, _ in self._bound.values():
            self._loop.remove_reader(bound)
            bound.close()
        self._bound.clear()

    def _kept(self, run: str, path: Path) -> socket.socket | None:
        """Return the socket that an earlier daemon has bound for this run, if it still has its path."""
        kept = None if self._store is None else self._store.take(run)
        if kept is None:
            return None
        if kept.getsockname() != str(path) or not path.is_socket():
            kept.close()
            return None
        kept.settimeout(0)
        return kept

    def _readable(self, worker: str, run: str) -> None:
        if self._bound.get(worker, ("",))[0] != run:
            return
        bound = self._bound[worker][1]
        heard: Notified | None = None
        for _ in range(MESSAGES_A_WAKE):
            message = _receive(bound)
            if message is None:
                break
            said = parse_notification(worker, run, message)
            if said is not None:
                heard = said if heard is None else merge(heard, said)
        self._loop.remove_reader(bound)
        self._loop.call_later(PAUSE_S, self._resume, worker, run, bound)
        if heard is not None:
            self._tell(heard)

    def _resume(self, worker: str, run: str, bound: socket.socket) -> None:
        known = self._bound.get(worker)
        if known is not None and known[1] is bound:
            self._loop.add_reader(bound, self._readable, worker, run)


def _bound_at(path: Path, uid: int | None) -> socket.socket:
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        bound.bind(os.fsencode(path))
        path.chmod(0o600)
        if uid is not None:
            os.chown(path, uid, -1, follow_symlinks=False)
    except OSError:
        bound.close()
        raise
    return bound


def _receive(bound: socket.socket) -> bytes | None:
    """Return the next message, empty where it was too long; None where there is none."""
    try:
        message, _, flags, _ = bound.recvmsg(LARGEST_MESSAGE)
    except (BlockingIOError, InterruptedError):
        return None
    return b"" if flags & socket.MSG_TRUNC else message
