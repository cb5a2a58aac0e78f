"""The kernel's word that tasks wait for memory, by systemd's convention `MEMORY_PRESSURE_WATCH`.

Source: https://systemd.io/MEMORY_PRESSURE. The variable names a PSI file, a FIFO or a Unix stream socket;
`MEMORY_PRESSURE_WRITE` holds what to write to it first, in Base64. A PSI file then has priority data at
each stall, the others something to read. /dev/null stands for "switched off".
"""

import binascii
import contextlib
import os
import select
import stat
import time
from collections.abc import Callable, Mapping
from typing import Final

from supervisor.guard.events import warn
from supervisor.guard.pressure import Pressure

HOLDS_S: Final = (
    10.0  # five windows of systemd's default of 200 ms within 2 s: stalls that go on do not flutter
)
_MOST_READ: Final = 4096
_MOST_READS: Final = 16


class StallWatch:
    """Tells whether tasks have waited for memory of late; off where nothing is to be watched."""

    def __init__(self, environment: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to watch; what cannot be watched is told once, and never told of again."""
        self._clock = clock
        self._stalled_s: float | None = None
        self._fd = -1
        self._event = 0
        self._poll = select.poll()
        path = environment.get("MEMORY_PRESSURE_WATCH", "")
        if not path or path == "/dev/null":
            return
        try:
            words = binascii.a2b_base64(
                environment.get("MEMORY_PRESSURE_WRITE", "").encode(), strict_mode=True
            )
            self._fd, self._event = _opened(path, words)
        except (OSError, ValueError) as error:
            warn("cannot watch for memory stalls by %s: %s", path, getattr(error, "strerror", None) or error)
            return
        self._poll.register(self._fd, self._event)

    @property
    def active(self) -> bool:
        """Whether something is watched."""
        return self._fd >= 0

    def level(self) -> Pressure:
        """Return high for 10 s after each stall, else normal; does not wait."""
        if self._fd >= 0 and self._stalled():
            self._stalled_s = self._clock()
        if self._stalled_s is None or self._clock() - self._stalled_s >= HOLDS_S:
            return Pressure.NORMAL
        return Pressure.HIGH

    def close(self) -> None:
        """Watch no longer."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):  # a worker that closes all descriptors has closed this one too
                os.close(fd)

    def _stalled(self) -> bool:
        events = sum(event for _, event in self._poll.poll(0))
        if events & (select.POLLERR | select.POLLNVAL):  # the cgroup is gone
            self.close()
            return False
        return bool(events & self._event) and (self._event == select.POLLPRI or self._emptied())

    def _emptied(self) -> bool:
        """Read what is there, and tell whether it was anything."""
        found = False
        for _ in range(_MOST_READS):
            try:
                if not os.read(self._fd, _MOST_READ):
                    break
            except OSError:
                break
            found = True
        return found


def _opened(path: str, words: bytes) -> tuple[int, int]:
    """Open what is to be watched and write `words` to it; return it, and the event that is a stall."""
    mode = os.stat(path).st_mode  # noqa: PTH116 - pathlib costs 3 ms at import
    if stat.S_ISSOCK(mode):
        fd, event = _connected(path), select.POLLIN
    elif stat.S_ISFIFO(mode) or stat.S_ISREG(mode):
        access = os.O_RDWR if words else os.O_RDONLY
        fd = os.open(path, access | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        event = select.POLLPRI if stat.S_ISREG(mode) else select.POLLIN
    else:
        raise OSError(None, "it is no file, FIFO or socket")
    try:
        if words:
            os.write(fd, words)
    except OSError:
        os.close(fd)
        raise
    return fd, event


def _connected(path: str) -> int:
    import socket  # noqa: PLC0415 - 5 ms and 1.5 MiB, for what is rare

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as watched:
        watched.settimeout(0)
        watched.connect(path)
        return watched.detach()
