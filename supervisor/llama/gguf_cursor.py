"""Reads forward through the header of a GGUF file that is not to be trusted.

The file is read, not mapped: a mapped file that is cut meanwhile ends the process with SIGBUS.
"""

import os
import struct
from pathlib import Path
from typing import Final

_WINDOW_BYTES: Final = 256 << 10
# A vocabulary of 262,144 tokens with its merges takes about 15 MB, and some models carry tokenizer.json too.
_MOST_HEADER_BYTES: Final = 256 << 20
_MOST_STRINGS: Final = 1 << 22  # five times the largest vocabulary with its merges; walked in about a second

_MOST_KEYS: Final = 8192  # a model has about fifty, and each further file of a split one three
_MOST_TENSORS: Final = 1 << 15  # the largest models have some thousands

_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")


class GgufError(ValueError):
    """A model file cannot be read; reads `cannot read FILE: why (at byte N)`."""

    def __init__(self, path: Path, why: str, offset: int | None = None) -> None:
        """Name the file, what is wrong with it, and where, in bytes from its start."""
        super().__init__(f"cannot read {path}: {why}{'' if offset is None else f' (at byte {offset})'}")
        self.path = path
        self.why = why
        self.offset = offset


class Budget:
    """What the headers of one model, however many files it is split into, may still take."""

    def __init__(self) -> None:
        """Start with all of it."""
        self._header_bytes = _MOST_HEADER_BYTES
        self._strings = _MOST_STRINGS
        self._keys = _MOST_KEYS
        self._tensors = _MOST_TENSORS

    def pay_bytes(self, count: int) -> str | None:
        """Take `count` bytes of header off; say what is wrong once there are too many."""
        self._header_bytes -= count
        return f"its header is larger than {_MOST_HEADER_BYTES} bytes" if self._header_bytes < 0 else None

    def pay_strings(self, count: int) -> str | None:
        """Take `count` strings in arrays off; say what is wrong once there are too many."""
        self._strings -= count
        return f"it holds more than {_MOST_STRINGS} strings" if self._strings < 0 else None

    def pay_keys(self, count: int) -> str | None:
        """Take `count` keys off; say what is wrong once there are too many."""
        self._keys -= count
        return f"it claims more than {_MOST_KEYS} keys" if self._keys < 0 else None

    def pay_tensors(self, count: int) -> str | None:
        """Take `count` tensors off; say what is wrong once there are too many."""
        self._tensors -= count
        return f"it claims more than {_MOST_TENSORS} tensors" if self._tensors < 0 else None


class Cursor:
    """A place in a file, moving forward. Whatever would leave the file or the budget raises GgufError."""

    def __init__(self, descriptor: int, path: Path, budget: Budget) -> None:
        """Stand at the start of an open file; closing it is the caller's."""
        self.path = path
        self.file_bytes = os.fstat(descriptor).st_size
        self.at = 0
        self.budget = budget
        self._descriptor = descriptor
        self._window = b""
        self._window_at = 0

    def wrong(self, why: str, offset: int | None = None) -> GgufError:
        """Return the error for what was found here, or at `offset`."""
        return GgufError(self.path, why, self.at if offset is None else offset)

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes; `count` is a caller's constant or was bounded by it."""
        place = self._reach(count)
        self.skip(count)
        return self._window[place : place + count]

    def skip(self, count: int) -> None:
        """Move past `count` bytes without reading them."""
        if count > self.file_bytes - self.at:
            raise self.wrong(f"cut: {count} bytes are to follow and {self.file_bytes - self.at} do")
        if (why := self.budget.pay_bytes(count)) is not None:
            raise self.wrong(why)
        self.at += count

    def u32(self) -> int:
        """Read an unsigned number of 32 bits."""
        found: int = _U32.unpack(self.take(4))[0]
        return found

    def u64(self) -> int:
        """Read an unsigned number of 64 bits."""
        found: int = _U64.unpack(self.take(8))[0]
        return found

    def text(self, most: int, what: str) -> str:
        """Read a string of `most` bytes at most; what is not UTF-8 in it becomes U+FFFD."""
        start = self.at
        length = self.u64()
        if length > most:
            raise self.wrong(f"{what} is {length} bytes long, and {most} are allowed", start)
        return self.take(length).decode("utf-8", "replace")

    def skip_strings(self, count: int) -> None:
        """Move past `count` strings, a window of the file at a time: a vocabulary is a million of them."""
        if (why := self.budget.pay_strings(count)) is not None:
            raise self.wrong(why)
        while count:
            start = place = self._reach(8)
            last = len(self._window) - 8
            while count and place <= last:
                length: int = _U64.unpack_from(self._window, place)[0]
                place += 8 + length
                count -= 1
            self.skip(place - start)

    def _reach(self, count: int) -> int:
        """Have the next `count` bytes in the window; return where in it they start."""
        place = self.at - self._window_at
        if place + count <= len(self._window):
            return place
        if count > self.file_bytes - self.at:
            raise self.wrong(f"cut: {count} bytes are to follow and {self.file_bytes - self.at} do")
        self._window = os.pread(self._descriptor, max(count, _WINDOW_BYTES), self.at)
        self._window_at = self.at
        if len(self._window) < count:
            raise self.wrong("it was cut while being read")
        return 0
