"""Reading a worker's output: its last lines, then what is added, through truncation and rotation."""

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

BLOCK_BYTES: Final = 1 << 16
MOST_BYTES: Final = 64 << 20  # of the end of a file that holds no line ends
MARK_BYTES: Final = 4096  # of what was shown last, to find the place again in the predecessor
AGAIN_BYTES: Final = 8 << 20  # of the predecessor's end, to look in


class LogFile:
    """One worker's output, `PATH`, and its predecessor `PATH.1`.

    The daemon shortens the file in place: the newest part becomes the predecessor, then the file is
    truncated. One that is replaced instead is followed by its name. Raises OSError where it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        """Open the file."""
        self._path = path
        self._older = path.with_name(f"{path.name}.1")
        self._file: BinaryIO = path.open("rb")
        self._at = os.fstat(self._file.fileno()).st_size
        self._mark = b""
        self._older_seen: tuple[int, int] | None = _identity(self._older)
        self._moved = False

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()

    def is_empty(self) -> bool:
        """Tell whether there is nothing to show, in the predecessor neither."""
        with contextlib.suppress(FileNotFoundError):
            return self._at == 0 and self._older.stat().st_size == 0
        return self._at == 0

    def last(self, lines: int) -> bytes:
        """Return the last lines before the place where following begins, the predecessor's included."""
        found = _last_lines(self._file, self._at, lines)
        self._remember(found)
        count = found.count(b"\n") + (found[-1:] not in {b"", b"\n"})
        if count < lines and len(found) == self._at:
            with contextlib.suppress(FileNotFoundError), self._older.open("rb") as older:
                end = os.fstat(older.fileno()).st_size
                found = _last_lines(older, end, lines - count) + found
        return found

    def more(self) -> bytes:
        """Return what was added since."""
        found = b""
        older = _identity(self._older)
        if os.fstat(self._file.fileno()).st_size < self._at or self._moved:
            found = self._rest_of_older()
            self._at, self._moved, self._older_seen = 0, False, older
        elif older != self._older_seen:
            # The predecessor is new and the truncation follows at once: look again before reading on.
            self._moved, self._older_seen = True, older
            return b""
        found += self._read_on()
        if _identity(self._path) != _identity(self._file.fileno()):
            found += self._reopened()
        self._remember(found)
        return found

    def _read_on(self) -> bytes:
        self._file.seek(self._at)
        found = self._file.read()
        self._at += len(found)
        return found

    def _reopened(self) -> bytes:
        """Go over to the file that has taken the name; to none where there is none yet."""
        try:
            fresh = self._path.open("rb")
        except FileNotFoundError:
            return b""
        self._file.close()
        self._file, self._at, self._older_seen = fresh, 0, _identity(self._older)
        return self._read_on()

    def _remember(self, found: bytes) -> None:
        self._mark = (self._mark + found[-MARK_BYTES:])[-MARK_BYTES:]

    def _rest_of_older(self) -> bytes:
        """Return what the predecessor holds beyond what was shown; nothing where the place is not found."""
        with contextlib.suppress(FileNotFoundError), self._older.open("rb") as older:
            older.seek(max(0, os.fstat(older.fileno()).st_size - AGAIN_BYTES))
            end = older.read()
            place = end.rfind(self._mark) if self._mark else -1
            if place >= 0:
                return end[place + len(self._mark) :]
        return b""


def _last_lines(file: BinaryIO, end: int, lines: int) -> bytes:
    """Read backwards from `end` until there are enough lines."""
    found, at = b"", end
    while at > 0 and lines > 0 and len(found) < MOST_BYTES:
        step = min(BLOCK_BYTES, at)
        at -= step
        file.seek(at)
        found = file.read(step) + found
        if found.count(b"\n", 0, -1) >= lines:
            break
    if lines <= 0:
        return b""
    parts = found.split(b"\n")
    keep = lines + 1 if found.endswith(b"\n") else lines
    return b"\n".join(parts[-keep:])


def _identity(of: Path | int) -> tuple[int, int] | None:
    """Tell one file from its successor of the same name; None where there is none."""
    try:
        seen = os.fstat(of) if isinstance(of, int) else of.stat()
    except FileNotFoundError:
        return None
    return seen.st_dev, seen.st_ino
