"""Keeps a database that can be written to: on disk, or in memory for as long as the disk refuses."""

import shutil
import sqlite3
import tempfile
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from msgspec import Struct

from supervisor.daemon.history_schema import NewerSchemaError
from supervisor.daemon.history_store import Attached, Batch, Store, Told, open_disk, open_memory, read_only

MEMORY_MOST_BYTES: Final = 4 << 20
UNSAVED_MOST: Final = 4096  # events that wait for the disk to come back
AGE_EVERY_S: Final = 3600.0
WARN_EVERY_S: Final = 3600.0  # a disk that comes and goes is told once an hour
ASIDE_MOST: Final = 2  # damaged files that are kept for looking at
_CORRUPT: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

Result = TypeVar("Result")


class Limits(Struct, frozen=True):
    """How large the history may grow, how often a disk that refused is tried, and the wall clock."""

    max_bytes: int
    retry_s: float
    now: Callable[[], float]


class Keeper:
    """The writing side of the history, used by one thread; `read` and `state` are for any."""

    def __init__(self, path: Path, warn: Callable[[str], None], limits: Limits) -> None:
        """Keep the history at `path`; nothing is opened before `open`."""
        self.state = "not open yet"
        self.kept: dict[str, bytes] = {}
        self.dropped = 0
        self.doubted = False  # a reader met damage
        self._path = path
        self._warn = warn
        self._limits = limits
        self._disk: Store | None = None
        self._memory: Store | None = None
        self._file: tuple[int, int] = (0, 0)  # device and inode of what is open
        self._unsaved: deque[Told | Attached] = deque()
        self._aged_s = self._tended_s = self._tried_s = 0.0
        self._warned_s: float | None = None

    def open(self) -> None:
        """Open the disk's database, else one in memory."""
        try:
            self._disk = self._open_disk()
            self.kept = self._disk.kept() | self.kept
            self._disk.write(
                Batch(kept=self.kept)
            )  # what was saved from a damaged one; and: can it be written?
            self.state = "ok"
        except (OSError, sqlite3.Error) as error:
            self._fall_back(error, Batch())

    def write(self, batch: Batch) -> None:
        """Write a batch where it can be written."""
        self.kept.update(batch.kept)
        if self._disk is None:
            self._write_memory(batch)
            return
        try:
            self._disk.write(batch)
        except sqlite3.Error as error:
            self._fall_back(error, batch)
            return
        self._tidy(self._disk.fit)

    def tend(self) -> None:
        """Do what is due: delete what is old, look after the file, try a disk that refused again."""
        now_s = time.monotonic()
        if self._disk is None:
            if now_s - self._tried_s >= self._limits.retry_s:
                self._try_disk()
        elif self.doubted or now_s - self._tended_s >= self._limits.retry_s:
            self._tended_s = now_s
            self._tidy(self._check)
        store = self._disk or self._memory
        if store is not None and (self._aged_s == 0.0 or now_s - self._aged_s >= AGE_EVERY_S):
            self._aged_s = now_s
            self._tidy(lambda: store.forget_old(self._limits.now()))

    def read(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        """Ask the disk over a connection of its own, or the memory in its place. Raises sqlite3.Error."""
        memory = self._memory
        if memory is not None:
            with suppress(sqlite3.ProgrammingError), memory.lock:  # closed just now: the disk is back
                return query(memory.connection)
        try:
            with read_only(self._path) as connection:
                return query(connection)
        except sqlite3.Error as error:
            self.doubted = self.doubted or _is_corrupt(error)
            raise

    def close(self) -> None:
        """Write to the disk what it will take, and let go."""
        if self._disk is None:
            self._try_disk()
        for store in (self._disk, self._memory):
            if store is not None:
                store.close()

    def _open_disk(self) -> Store:
        try:
            store = open_disk(self._path, self._limits.max_bytes)
        except NewerSchemaError as error:
            self._move_aside("newer", str(error))
            store = open_disk(self._path, self._limits.max_bytes)
        except sqlite3.Error as error:
            if not _is_corrupt(error):
                raise
            self._move_aside("corrupt", str(error))
            store = open_disk(self._path, self._limits.max_bytes)
        self._file = _identity(self._path)
        return store

    def _fall_back(self, error: Exception, batch: Batch) -> None:
        """Leave a database that failed: a damaged one for a new one, any other for the memory."""
        if self._disk is not None:
            self._disk.close()
            self._disk = None
        if _is_corrupt(error):
            try:
                self._move_aside("corrupt", str(error))
                self._disk = self._open_disk()
                self._disk.write(Batch(batch.events, batch.samples, self.kept))
            except (OSError, sqlite3.Error) as further:
                error = further
                if self._disk is not None:
                    self._disk.close()
                    self._disk = None
            else:
                self.state = "ok"
                return
        self._take_memory(error)
        self._write_memory(batch)

    def _take_memory(self, error: Exception) -> None:
        self._tried_s = time.monotonic()
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        self.state = f"in memory only: {why}"
        memory = open_memory(MEMORY_MOST_BYTES)
        self.kept = _recent(self._path, memory) | self.kept
        self._memory = memory
        if self._warned_s is None or self._tried_s - self._warned_s >= WARN_EVERY_S:
            self._warned_s = self._tried_s
            self._warn(
                f"cannot write the history to {self._path}: {why}; it is kept in memory until that works"
            )

    def _write_memory(self, batch: Batch) -> None:
        if self._memory is None:
            return
        self._unsaved.extend(batch.events)
        while len(self._unsaved) > UNSAVED_MOST:
            self._unsaved.popleft()
            self.dropped += 1
        self._memory.write(Batch(batch.events, batch.samples))
        self._memory.fit()

    def _try_disk(self) -> None:
        """Go back to the disk with all that happened meanwhile, if it takes it."""
        self._tried_s = time.monotonic()
        disk: Store | None = None
        try:
            disk = self._open_disk()
            if self._memory is not None:
                disk.copy_samples(self._memory)
            disk.write(Batch(tuple(self._unsaved), (), self.kept))
            disk.fit()
        except (OSError, sqlite3.Error):
            if disk is not None:
                disk.close()
            return
        self._disk, memory, self._memory = disk, self._memory, None
        self._unsaved.clear()
        self.state = "ok"
        if memory is not None:
            with memory.lock:
                memory.close()
            self._warn(f"the history is on disk again: {self._path}")

    def _tidy(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (OSError, sqlite3.Error) as error:
            self._fall_back(error, Batch())

    def _check(self) -> None:
        """Raise where the open file is damaged, or is no longer the one at its path."""
        if _identity(self._path) != self._file:
            raise FileNotFoundError(0, "the file was removed or replaced", str(self._path))
        if self.doubted and self._disk is not None:
            self.doubted = False
            verdict = self._disk.connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                damage = sqlite3.DatabaseError(verdict)
                damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                raise damage

    def _move_aside(self, label: str, why: str) -> None:
        """Rename a file that cannot be used, keeping what can be read of the durable memory."""
        with suppress(sqlite3.Error, OSError), read_only(self._path) as connection:
            self.kept = dict(connection.execute("SELECT key, value FROM kept")) | self.kept
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._limits.now()))
        aside = self._path.with_name(f"{self._path.name}.{label}-{stamp}")
        self._path.rename(aside)
        for suffix in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                self._path.with_name(self._path.name + suffix).rename(f"{aside}{suffix}")
        earlier = sorted(self._path.parent.glob(f"{self._path.name}.{label}-*Z"))
        for old in earlier[:-ASIDE_MOST]:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{old}{suffix}").unlink(missing_ok=True)
        self._warn(
            f"cannot use the history {self._path}: {why}; it is now {aside.name}, and a new one is begun"
        )


def _recent(path: Path, memory: Store) -> dict[str, bytes]:
    """Fill `memory` with the newest incidents that can still be read at `path`; return what is kept there."""
    with suppress(OSError, sqlite3.Error), read_only(path) as connection:
        return memory.seed(connection)
    # With neither the -shm file nor leave to make one SQLite refuses even to read: so, a copy.
    for directory in ("/dev/shm", tempfile.gettempdir()):  # noqa: S108 - mkdtemp makes a private one in it
        with (
            suppress(OSError, sqlite3.Error),
            tempfile.TemporaryDirectory(prefix="gpu-supervisor-", dir=directory) as place,
        ):
            copy = Path(place, path.name)
            shutil.copyfile(path, copy)
            with suppress(FileNotFoundError):
                shutil.copyfile(f"{path}-wal", f"{copy}-wal")
            with read_only(copy) as connection:
                return memory.seed(connection)
    return {}


def _identity(path: Path) -> tuple[int, int]:
    try:
        seen = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (seen.st_dev, seen.st_ino)


def _is_corrupt(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _CORRUPT
