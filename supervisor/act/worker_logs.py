"""The output of the workers: one append-only file each, bounded, that no worker ever waits for."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from supervisor.act.last_words import LINES, WORDS_BYTES
from supervisor.act.output import TAIL_BYTES, last_lines, raw_lines

LIMIT_BYTES: Final = 16 << 20
MODE: Final = 0o640  # what a worker prints may be private
COPY_BYTES: Final = 1 << 20
# A disk that takes nothing, or is gone: no reason to have no worker.
UNWRITABLE: Final = frozenset({errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOENT})


class WorkerLogs:
    """A directory of `WORKER.log` files, each with at most one predecessor `WORKER.log.1`.

    Workers hold the file open themselves, so that they outlive the daemon and never block on it. It
    is therefore shortened in place: the newest part is copied to the predecessor, then the file is
    truncated, and writers go on at its new end because it is open for appending. What is written
    between the last copied byte and the truncation, some microseconds, is lost.
    """

    def __init__(
        self,
        directory: Path,
        limit_bytes: int = LIMIT_BYTES,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        """Keep the files in `directory`, which is made where it is missing; `warn` is told what is lost."""
        with contextlib.suppress(OSError):  # told with the first worker that is launched
            directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._warn = warn
        self._began: dict[str, int] = {}  # by worker: where the output of its newest run begins

    def path(self, worker: str) -> Path:
        """Return where the worker's output goes."""
        return self._directory / f"{worker}.log"

    def open(self, worker: str) -> int:
        """Return a descriptor for the output of a worker that is being launched. Raises OSError.

        On a disk that takes nothing it is that of /dev/null.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            return os.open(self.path(worker), flags, MODE)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            if self._warn is not None:
                why = error.strerror or str(error)
                self._warn(f"what {worker} prints is lost: cannot write {self.path(worker)}: {why}")
            return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    def begin(self, worker: str, at: int | None = None) -> int | None:
        """Note where the output of a run begins: at the end of the file as it is now, or at `at`.

        Returns that, None where there is no file.
        """
        try:
            begins = self.path(worker).stat().st_size if at is None else at
        except OSError:
            self._began.pop(worker, None)
            return None
        self._began[worker] = begins
        return begins

    def last_words(self, worker: str) -> tuple[str, ...]:
        """Return the last lines of a worker's newest run as they are; none where its begin is not known.

        64 KiB and 200 lines at most. Blocks: for a thread. Raises OSError.
        """
        began = self._began.get(worker)
        if began is None:
            return ()
        with self.path(worker).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            began = began if began <= size else 0  # it was shortened since
            file.seek(max(began, size - WORDS_BYTES))
            return raw_lines(file.read(WORDS_BYTES), LINES)

    def tail(self, worker: str, lines: int) -> tuple[str, ...]:
        """Return the last lines of a worker's output; see `Output`."""
        return tail(self.path(worker), lines)

    def trim(self) -> tuple[str, ...]:
        """Shorten every file beyond the limit; return what could not be done, in words.

        Copies up to the limit for each file: call it in a thread, every few seconds. Between two
        calls a file grows as fast as its writers write.
        """
        faults: list[str] = []
        for path in self._found(faults):
            try:
                _rotate(path, self._limit_bytes)
            except OSError as error:
                faults.append(f"cannot shorten {path}: {error.strerror or error}")
            if path.stem in self._began:
                self._began[path.stem] = 0  # what is in it now, the newest run has printed
        return tuple(faults)

    def _found(self, faults: list[str]) -> list[Path]:
        """Return the files beyond the limit. One scandir is a fifth of what Path.glob and lstat cost."""
        found: list[Path] = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self._directory) as entries:
            for entry in entries:
                try:
                    if (
                        entry.name.endswith(".log")
                        and entry.stat(follow_symlinks=False).st_size > self._limit_bytes
                    ):
                        found.append(Path(entry.path))
                except OSError as error:
                    faults.append(f"cannot shorten {entry.path}: {error.strerror or error}")
        return found


def _rotate(path: Path, limit_bytes: int) -> None:
    """Copy the newest `limit_bytes` to the predecessor, then truncate, whether the copy went well or not."""
    source = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    fresh, previous = path.with_suffix(".log.new"), path.with_suffix(".log.1")
    try:
        _copy_end(source, fresh, limit_bytes)
        fresh.replace(previous)
    except OSError:
        # A full disk: the bound is the promise, the old output is not.
        for leftover in (fresh, previous):
            leftover.unlink(missing_ok=True)
        raise
    finally:
        os.ftruncate(source, 0)
        os.close(source)


def _copy_end(source: int, target: Path, limit_bytes: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    sink = os.open(target, flags, MODE)
    try:
        at = max(0, os.fstat(source).st_size - limit_bytes)
        left = limit_bytes + COPY_BYTES  # what is written meanwhile is followed for so long
        while left > 0 and (sent := os.sendfile(sink, source, at, min(COPY_BYTES, left))):
            at += sent
            left -= sent
    finally:
        os.close(sink)


def tail(path: Path, lines: int) -> tuple[str, ...]:
    """Return the last lines of one file, its predecessor included, 256 KiB at most. Raises OSError."""
    content = _end_of(path, TAIL_BYTES)
    if len(content) < TAIL_BYTES and content.count(b"\n") < lines:
        content = _end_of(path.with_name(path.name + ".1"), TAIL_BYTES - len(content)) + content
    return last_lines(content, lines)


def _end_of(path: Path, size: int) -> bytes:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - size))
        return file.read(size)
    return b""
