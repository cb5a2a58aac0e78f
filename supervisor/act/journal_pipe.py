"""A pipe whose lines become entries of the journal about a worker's unit."""

import os
import socket
from typing import Final

from supervisor.systemd.units import unit_name

READ_BYTES: Final = 1 << 16
LINE_BYTES: Final = 8192  # in one entry; what is longer becomes several
MOST_BYTES: Final = 1 << 20  # of one command: it has a word to say, not a flood


class JournalPipe:
    """The read end of a pipe, and the way from there to journald. Nothing here waits for journald."""

    def __init__(self, reader: int, sender: socket.socket, worker: str) -> None:
        """Take over the descriptor of a pipe that does not block, and a datagram socket to journald."""
        self._reader = reader
        self._sender = sender
        self._fields = (
            f"PRIORITY=6\nSYSLOG_IDENTIFIER={worker}\nWORKER={worker}\nOBJECT_SYSTEMD_UNIT={unit_name(worker)}\n"
        ).encode()
        self._half = b""
        self._left_bytes = MOST_BYTES
        self._lost = 0

    def pass_on(self) -> bool:
        """Send on what there is to read; False at the end, when all is closed."""
        try:
            part = os.read(self._reader, READ_BYTES)
        except BlockingIOError:
            return True
        self._take(part if part or not self._half else b"\n")
        if part:
            return True
        if self._lost:
            self._send(b"(%d lines more)" % self._lost)
        self.close()
        return False

    def close(self) -> None:
        """Let go; whoever still writes is told that nobody reads (SIGPIPE)."""
        os.close(self._reader)
        self._sender.close()

    def _take(self, part: bytes) -> None:
        *lines, half = (self._half + part).split(b"\n")
        *whole, self._half = _cut(half)
        for piece in [piece for line in lines for piece in _cut(line)] + whole:
            self._left_bytes -= len(piece) + 1
            if self._left_bytes < 0 or not self._send(piece):
                self._lost += 1

    def _send(self, line: bytes) -> bool:
        """Hand one entry to journald; False where it takes none now."""
        try:
            self._sender.send(self._fields + b"MESSAGE=" + line + b"\n")
        except OSError:  # its queue is full, or it is being restarted
            return False
        return True


def _cut(line: bytes) -> list[bytes]:
    """Return the pieces of a line that each fit into an entry; of an empty one, itself."""
    return [line[at : at + LINE_BYTES] for at in range(0, max(1, len(line)), LINE_BYTES)]
