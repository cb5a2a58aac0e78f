"""The kernel's log, /dev/kmsg: read record by record, never waited for.

Format and errors: Documentation/ABI/testing/dev-kmsg of Linux. Anybody who is root may write there, and
so may make us think ill of a GPU; nobody else can.
"""

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from supervisor.model.reading import Missing

PATH: Final = Path("/dev/kmsg")
READ_BYTES: Final = 8192  # CONSOLE_EXT_LOG_MAX: the longest record; a read returns one
RECORDS_A_READ: Final = 500  # what is left is read in the next turn
# What the log held before: for what happened while no daemon was there. A ring of 16 MiB has some 100,000
# records; 20,000 take 40 ms (measured: 1.8 us each).
LOOK_BACK_S: Final = 60.0
LOOK_BACK_RECORDS: Final = 20_000
# EPIPE: what was to come next is overwritten. EINVAL: a record that is longer than the room for it; gone too.
_GO_ON: Final = frozenset({errno.EPIPE, errno.EINVAL})
_FAILURES_MOST: Final = 16  # in a row: then it is no log
# Level and facility, number, microseconds, flags, whatever else there will be; the text.
_RECORD: Final = re.compile(rb"\d{1,5},(\d{1,20}),(\d{1,20}),[^;,]{0,20}(?:,[^;]*)?;(.*)", re.DOTALL)


class Record(Struct, frozen=True):
    """One record. `seq` counts up within a boot; `at_s` is monotonic, for old ones within seconds."""

    seq: int
    at_s: float
    text: str


class KernelLog:
    """The log, open; used in the thread of its event loop only."""

    def __init__(self, descriptor: int, path: Path) -> None:
        """Take over a descriptor that does not block."""
        self._descriptor = descriptor
        self._path = path
        self._cut = b""  # the begin of a record, from a pipe that stands in for the device
        self._at_end = False  # nothing more was there when it was last read
        self.ended: Missing | None = None  # why no more can be read

    def fileno(self) -> int:
        """Return the descriptor for `loop.add_reader`."""
        return self._descriptor

    def look_back(self) -> Sequence[Record]:
        """Return the records of the last minute, and skip older ones; called once, before `read`.

        Their times are those of the scheduler's clock, which runs as CLOCK_MONOTONIC_RAW does.
        """
        raw_s, now_s = time.clock_gettime(time.CLOCK_MONOTONIC_RAW), time.monotonic()
        aged = [
            (seq, max(0.0, raw_s - stamp_s), text) for seq, stamp_s, text in self._records(LOOK_BACK_RECORDS)
        ]
        if not self._at_end:
            with contextlib.suppress(OSError):  # a pipe has no end to go to
                os.lseek(self._descriptor, 0, os.SEEK_END)
        return [Record(seq, now_s - age_s, text) for seq, age_s, text in aged if age_s <= LOOK_BACK_S]

    def read(self) -> Sequence[Record]:
        """Return what has come since; `ended` says why, once nothing more will."""
        now_s = time.monotonic()
        return [Record(seq, now_s, text) for seq, _, text in self._records(RECORDS_A_READ)]

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)

    def _records(self, most: int) -> Sequence[tuple[int, float, str]]:
        found: list[tuple[int, float, str]] = []
        failures = 0
        self._at_end = False
        for _ in range(most):
            if self.ended is not None:
                break
            try:
                data = os.read(self._descriptor, READ_BYTES)
            except BlockingIOError:
                self._at_end = True
                break
            except OSError as error:
                failures += 1
                if error.errno not in _GO_ON or failures > _FAILURES_MOST:
                    self.ended = Missing(f"cannot read {self._path}: {error.strerror}")
                continue
            failures = 0
            if not data:
                self.ended = Missing(f"cannot read {self._path}: it has ended")
            found += self._split(data)
        return found

    def _split(self, data: bytes) -> Sequence[tuple[int, float, str]]:
        """Return the records in what was read: one from the device, any number from a pipe."""
        *lines, self._cut = (self._cut + data).split(b"\n")
        self._cut = self._cut[-READ_BYTES:]
        return [record for line in lines if (record := _parse(line)) is not None]


def open_kernel_log(path: Path = PATH) -> KernelLog | Missing:
    """Open the log for reading from its begin; Missing where there is none, or not for us.

    In a container it is often absent, or a link to the console, which nobody is to read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        return Missing(f"cannot read {path}: {error.strerror}")
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)) or os.isatty(descriptor):
        os.close(descriptor)
        return Missing(f"cannot read {path}: it is no log of the kernel")
    return KernelLog(descriptor, path)


def _parse(line: bytes) -> tuple[int, float, str] | None:
    """Return number, stamp and text of a record; None for its further lines, and for garbage."""
    found = _RECORD.match(line)
    return (
        None if found is None else (int(found[1]), int(found[2]) / 1e6, found[3].decode("utf-8", "replace"))
    )
