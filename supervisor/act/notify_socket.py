"""The socket of each worker: sd_notify's and the guard's, where it says that it is ready, alive or broken."""

import asyncio
import contextlib
import hashlib
import os
import socket
from pathlib import Path
from typing import Final, Protocol

from supervisor.act.hearing import Callbacks, Ear
from supervisor.model.report import Words

LONGEST_PATH: Final = 107  # bytes; sun_path of unix(7) less its final NUL
# After a wake that came so soon after another the socket rests as long: a worker that floods it waits, the
# loop does not. One that reports five times a second never rests, which would cost as much as its report.
PAUSE_S: Final = 0.05
LAST_WORDS: Final = 512  # messages; net.unix.max_dgram_qlen is 10 or, where systemd has set it, 512


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

    A message that begins with `{` is a guard's report, and counts only where the kernel says that a
    process of that run has sent it; every other one is sd_notify's.

    A worker that outlives a daemon goes on reporting to the next. What it says in between waits in the
    socket where there is a store that keeps it; else the socket is bound again under the same path, and
    what is said before is refused. Descriptors that are sent along
    (BARRIER=1, FDSTORE=1) are closed by the kernel since room is given for credentials alone, which is
    what a barrier waits for.
    """

    def __init__(
        self,
        directory: Path,
        callbacks: Callbacks,
        loop: asyncio.AbstractEventLoop,
        store: SocketStore | None = None,
    ) -> None:
        """Keep the sockets in `directory`, made where it is missing: workers of any user may enter it."""
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._directory = directory
        self._callbacks = callbacks
        self._loop = loop
        self._store = store
        self._ears: dict[str, Ear] = {}  # by worker

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
        ear = self._ears[worker] = Ear(worker, run, bound, self._callbacks)
        self._loop.add_reader(bound, self._readable, ear)
        return path

    def say(self, worker: str, run: str, words: Words) -> None:
        """Tell the guards of a run; without effect where its socket is gone."""
        ear = self._ears.get(worker)
        if ear is not None and ear.run == run:
            ear.listeners.say(words)

    def hear_out(self, worker: str, run: str) -> None:
        """Take what a run has said before its end, so that it is known before that is."""
        ear = self._ears.get(worker)
        if ear is not None and ear.run == run:
            for one in ear.hear(self._loop.time(), LAST_WORDS):
                self._callbacks.tell(one)

    def say_again(self) -> None:
        """Tell those whose queue was full when they were told."""
        for ear in self._ears.values():
            ear.listeners.again()

    def drop(self, worker: str) -> None:
        """Listen to a worker no longer, and remove its socket."""
        ear = self._ears.pop(worker, None)
        if ear is None:
            return
        self._loop.remove_reader(ear.bound)
        if self._store is not None:
            self._store.drop(ear.run)
        ear.bound.close()
        with contextlib.suppress(OSError):
            self.path(worker).unlink()

    def close(self) -> None:
        """Listen to nobody any longer; the sockets' paths stay for the next daemon to bind."""
        for ear in self._ears.values():
            self._loop.remove_reader(ear.bound)
            ear.bound.close()
        self._ears.clear()

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

    def _readable(self, ear: Ear) -> None:
        if self._ears.get(ear.worker) is not ear:
            return
        now_s = self._loop.time()
        news = ear.hear(now_s)
        if now_s < ear.woken_s + PAUSE_S:
            self._loop.remove_reader(ear.bound)
            self._loop.call_later(PAUSE_S, self._resume, ear)
        ear.woken_s = now_s
        for one in news:
            self._callbacks.tell(one)

    def _resume(self, ear: Ear) -> None:
        if self._ears.get(ear.worker) is ear:
            ear.woken_s = self._loop.time()
            self._loop.add_reader(ear.bound, self._readable, ear)


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
