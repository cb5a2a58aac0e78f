"""What the kernel did to a cgroup for its memory: reclaimed at memory.high, stopped at memory.max, killed."""

import contextlib
import os
import select
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from supervisor.model.reading import Missing

__all__ = ["CgroupEvents"]

READ_BYTES: Final = 4096


class _Watched(Struct):
    """One life's memory.events: open while the cgroup is there."""

    fd: int | None
    baseline: Mapping[str, int]
    latest: Mapping[str, int]


class CgroupEvents:
    """Hears the memory.events of all tracked cgroups through one descriptor, and polls none of them.

    The kernel wakes whoever polls such a file (POLLPRI) once a counter goes up, at most every 10 ms a
    cgroup; reading it from the start arms it again. asyncio does not wait for POLLPRI, so all of them
    are in one epoll, which becomes readable. Counters are those of a life: a unit that failed keeps its
    cgroup, and the next life begins with the kills of the one before it (systemd#43439).
    """

    def __init__(self, changed: Callable[[str], None]) -> None:
        """Watch nothing yet; `changed` is told the run whose counters went up, by `drain`."""
        self._changed = changed
        self._epoll = select.epoll()
        self._lives: dict[str, _Watched] = {}
        self._runs: dict[int, str] = {}  # by descriptor

    def fileno(self) -> int:
        """Return the descriptor for `loop.add_reader`, whose callback is `drain`."""
        return self._epoll.fileno()

    def watch(self, run: str, cgroup: Path) -> Missing | None:
        """Watch the cgroup of one life, from now on; return why it is not told of changes, if it is not."""
        self.forget(run)
        path = cgroup / "memory.events"
        fd: int | None = None
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            first = _parse(os.pread(fd, READ_BYTES, 0))  # without a read, poll answers at once
        except OSError as error:
            if fd is not None:
                os.close(fd)
            return Missing(f"cannot watch {path}: {error.strerror}")
        self._lives[run] = _Watched(fd, first, first)
        self._runs[fd] = run
        try:
            self._epoll.register(fd, select.EPOLLPRI)
        except OSError as error:  # it can be read when it is asked for, all the same
            return Missing(f"cannot watch {path}: {error.strerror}")
        return None

    def drain(self) -> None:
        """Read what has changed, whenever the descriptor is readable, and tell of it."""
        for fd, _ in self._epoll.poll(0):
            run = self._runs.get(fd)
            if run is not None and self._read(self._lives[run]):
                self._changed(run)

    def counters(self, run: str) -> Mapping[str, int]:
        """Return how often each thing happened in this life, by now or until its cgroup was removed.

        The kernel's words: `low`, `high`, `max`, `oom`, `oom_kill`, `oom_group_kill`. Empty where the
        life was never watched.
        """
        watched = self._lives.get(run)
        if watched is None:
            return {}
        self._read(watched)
        # Not below 0: another cgroup of the same name would begin anew.
        return {name: max(0, count - watched.baseline.get(name, 0)) for name, count in watched.latest.items()}

    def forget(self, run: str) -> None:
        """Let go of one life and its counters; without effect where it is not watched."""
        watched = self._lives.pop(run, None)
        if watched is not None:
            self._let_go(watched)

    def close(self) -> None:
        """Let go of everything."""
        for run in tuple(self._lives):
            self.forget(run)
        self._epoll.close()

    def _read(self, watched: _Watched) -> bool:
        """Read one file again; tell whether a counter has changed. What cannot be read is let go of."""
        if watched.fd is None:
            return False
        try:
            latest = _parse(os.pread(watched.fd, READ_BYTES, 0))
        except OSError:  # the cgroup was removed (ENODEV), and its poll would answer for ever
            self._let_go(watched)
            return False
        changed = latest != watched.latest
        watched.latest = latest
        return changed

    def _let_go(self, watched: _Watched) -> None:
        if watched.fd is None:
            return
        with contextlib.suppress(OSError):  # it could not be registered
            self._epoll.unregister(watched.fd)
        del self._runs[watched.fd]
        os.close(watched.fd)
        watched.fd = None


def _parse(data: bytes) -> Mapping[str, int]:
    words = data.decode(errors="replace").split()
    return {name: int(count) for name, count in zip(words[::2], words[1::2], strict=False) if count.isdigit()}
