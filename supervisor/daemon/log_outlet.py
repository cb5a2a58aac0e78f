"""Where lines of log leave the daemon: a stream or the journal, written by a thread that may block."""

import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

JOURNAL: Final = Path("/run/systemd/journal/socket")
LINES_MOST: Final = 1000
_BUSY_S: Final = 5.0  # how long one line may wait for a stream that somebody else made non-blocking

Line = tuple[bytes, ...]  # the line; for the journal the datagram, and the line in its place


class Outlet:
    """A bounded queue of lines in front of a writer; `put` never waits and never fails."""

    def __init__(
        self, write: Callable[..., None], lost: Callable[[int], Line], ended: Callable[[], None]
    ) -> None:
        """Begin writing; `lost` words the line that tells of lost ones, `ended` follows the last line."""
        self.dropped = 0  # lines that a reader too slow, or a writer that failed, has cost
        self._write = write
        self._lost = lost
        self._ended = ended
        self._told = 0
        self._lines: deque[Line] = deque()
        self._changed = threading.Condition()
        self._busy = False
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def put(self, *line: bytes) -> None:
        """Add a line, in place of the oldest where too many wait."""
        with self._changed:
            if self._closed:
                self.dropped += 1
                return
            if len(self._lines) >= LINES_MOST:
                self._lines.popleft()
                self.dropped += 1
            self._lines.append(line)
            self._changed.notify_all()

    debug = info = warning = error = critical = put  # as structlog calls the logger that it wraps

    def flush(self, within_s: float) -> bool:
        """Wait until everything is written; False when that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._lines and not self._busy, within_s)

    def close(self, within_s: float) -> None:
        """Write what waits, and end; what is not written within the time is lost."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(within_s)
        with self._changed:  # a thread that is stuck now writes nothing more later
            self.dropped += len(self._lines)
            self._lines.clear()

    def _work(self) -> None:
        while (line := self._take()) is not None:
            dropped = self.dropped  # read once: `put` counts on meanwhile
            if dropped > self._told:
                lost, self._told = dropped - self._told, dropped
                self._try(self._lost(lost))
            self._try(line)
        self._ended()

    def _take(self) -> Line | None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._lines or self._closed)
            if not self._lines:
                return None
            self._busy = True
            return self._lines.popleft()

    def _try(self, line: Line) -> None:
        try:
            self._write(*line)
        except OSError:
            with self._changed:
                self.dropped += 1


class StreamWriter:
    """Writes whole lines to a file, blocking; raises OSError."""

    def __init__(self, descriptor: int) -> None:
        """Write to what `descriptor` means now, whatever becomes of that number."""
        self._descriptor = os.dup(descriptor)

    def __call__(self, line: bytes) -> None:
        """Write a line."""
        left = memoryview(line)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                if not select.select((), (self._descriptor,), (), _BUSY_S)[1]:
                    raise

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)


def journal_writer(path: Path, otherwise: Callable[[bytes], None]) -> Callable[[bytes, bytes], None]:
    """Return a function that sends an entry to the journal, or where it does not listen writes the line.

    The socket is made for each entry (5 us): nothing stays open, and journald's own may be made anew.
    """

    def write(entry: bytes, line: bytes) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(_BUSY_S)
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                sender.sendto(entry, str(path))
        except OSError:
            otherwise(line)

    return write


def journal_entry(fields: Mapping[str, str]) -> bytes:
    """Write an entry in journald's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).

    A value of several lines goes in the binary form: the name, its length as 64 bits, the value.
    """
    parts: list[bytes] = []
    for name, value in fields.items():
        key, data = name.encode(), value.encode("utf-8", "backslashreplace")
        if b"\n" in data:
            parts.append(key + b"\n" + len(data).to_bytes(8, "little") + data + b"\n")
        else:
            parts.append(key + b"=" + data + b"\n")
    return b"".join(parts)
