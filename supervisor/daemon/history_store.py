"""One SQLite database of the history, on disk or in memory; used by one writing thread."""

import os
import sqlite3
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from supervisor.daemon.history_samples import to_columns
from supervisor.daemon.history_schema import upgrade
from supervisor.daemon.wording import plain_fields, plain_text
from supervisor.model.action import Notice
from supervisor.model.incident import SampleRow

INCIDENTS_KEPT_S: Final = 30 * 86400.0
SAMPLES_KEPT_S: Final = 7 * 86400.0
FUTURE_S: Final = 3600.0  # a reading from further ahead was taken under a wrong clock
ENTRIES_MOST: Final = 500  # of one incident
TEXT_MOST: Final = 4096  # characters of a reason
LINES_MOST: Final = 100  # of a worker's log, with the next: 200 KB
LINE_MOST: Final = 2000
PAGE_BYTES: Final = 4096
SEEDED_MOST: Final = 200  # incidents that are shown from a disk that cannot be written
_OPENED: Final = """INSERT INTO incidents (id, worker, gpu, cause, reason, opened_wall_s, fields)
    VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET worker = coalesce(worker, excluded.worker),
    gpu = coalesce(gpu, excluded.gpu), cause = coalesce(cause, excluded.cause)"""
_SAMPLE: Final = """REPLACE INTO samples
    SELECT ?, (SELECT seq FROM subjects WHERE kind = ? AND name = ?), ?, ?, ?, ?"""


class Told(Struct, frozen=True):
    """A notice that belongs to an incident."""

    wall_s: float
    notice: Notice


class Attached(Struct, frozen=True):
    """The last lines of a worker's log, for an incident."""

    incident: str
    lines: tuple[str, ...]


class Sampled(Struct, frozen=True):
    """The rows of one moment."""

    wall_s: float
    rows: Sequence[SampleRow]


class Batch(Struct, frozen=True):
    """What is written in one transaction."""

    events: Sequence[Told | Attached] = ()
    samples: Sequence[Sampled] = ()
    kept: Mapping[str, bytes] = {}


class Store:
    """A database with the newest tables; every method may raise sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection, max_bytes: int) -> None:
        """Bring the tables to the newest version; may raise NewerSchemaError."""
        self.connection = connection
        self.lock = threading.Lock()  # for those who read a database in memory over the same connection
        self._max_bytes = max_bytes
        upgrade(connection)

    def write(self, batch: Batch) -> None:
        """Write everything or nothing."""
        with self.lock, _transaction(self.connection):
            for event in batch.events:
                if isinstance(event, Told):
                    self._tell(event)
                else:
                    self._attach(event)
            for sampled in batch.samples:
                self._sample(sampled)
            self.connection.executemany("REPLACE INTO kept VALUES (?, ?)", batch.kept.items())

    def kept(self) -> dict[str, bytes]:
        """Return everything that is kept by key."""
        return dict(self.connection.execute("SELECT key, value FROM kept"))

    def copy_samples(self, other: "Store") -> None:
        """Add every sample of another store; one that is here already is replaced."""
        rows = other.connection.execute(
            "SELECT wall_s, kind, name, a, b, c, d FROM samples JOIN subjects ON subject = seq"
        )
        with self.lock, _transaction(self.connection):
            self.connection.executemany(
                "INSERT OR IGNORE INTO subjects (kind, name) VALUES (?, ?)",
                other.connection.execute("SELECT kind, name FROM subjects"),
            )
            self.connection.executemany(_SAMPLE, rows)

    def seed(self, source: sqlite3.Connection) -> dict[str, bytes]:
        """Copy the newest incidents out of another database, for showing; return what is kept there."""
        with self.lock, _transaction(self.connection):
            newest = f"SELECT id FROM incidents ORDER BY seq DESC LIMIT {SEEDED_MOST}"  # noqa: S608 - our own words
            for table, key in (("incidents", "id"), ("entries", "incident")):
                rows = source.execute(f"SELECT * FROM {table} WHERE {key} IN ({newest})").fetchall()  # noqa: S608
                for row in rows:
                    marks = ", ".join("?" * len(row))
                    self.connection.execute(f"INSERT INTO {table} VALUES ({marks})", row)  # noqa: S608
        return dict(source.execute("SELECT key, value FROM kept"))

    def forget_old(self, now_wall_s: float) -> None:
        """Delete what is past its age, and samples of a time that has not come."""
        with self.lock, _transaction(self.connection):
            self.connection.execute(
                "DELETE FROM samples WHERE wall_s < ? OR wall_s > ?",
                (now_wall_s - SAMPLES_KEPT_S, now_wall_s + FUTURE_S),
            )
            self._drop_incidents("opened_wall_s < ?", now_wall_s - INCIDENTS_KEPT_S)

    def fit(self) -> None:
        """Delete the oldest samples, then the oldest closed incidents, until the size is in bounds."""
        while self._size_bytes() > self._max_bytes:
            with self.lock:
                with _transaction(self.connection):
                    if not (self._drop_samples() or self._drop_oldest("closed_wall_s IS NOT NULL")):
                        self._drop_oldest("1")
                # As a script: `execute` steps this pragma once, and gives back one page (SQLite 3.40).
                self.connection.executescript("PRAGMA incremental_vacuum")
                if not self._count("incidents") and not self._count("samples"):
                    return

    def close(self) -> None:
        """Close the database; what was written is safe before that."""
        with suppress(sqlite3.Error):
            self.connection.close()

    def _tell(self, told: Told) -> None:
        notice = told.notice
        told_text = [notice.incident, notice.worker, notice.gpu, notice.level, notice.event, notice.reason]
        ident, worker, gpu, level, event, reason = (
            None if text is None else plain_text(text, TEXT_MOST) for text in told_text
        )
        fields = _json(plain_fields(notice.fields, TEXT_MOST))
        cause = None if notice.cause is None else notice.cause.value
        self.connection.execute(_OPENED, (ident, worker, gpu, cause, reason, told.wall_s, fields))
        self.connection.execute(
            """INSERT INTO entries (incident, wall_s, level, event, reason, fields)
               SELECT ?, ?, ?, ?, ?, ? WHERE (SELECT count(*) FROM entries WHERE incident = ?) < ?""",
            (ident, told.wall_s, level, event, reason, fields, ident, ENTRIES_MOST),
        )
        if notice.outcome is not None:
            self.connection.execute(
                "UPDATE incidents SET closed_wall_s = ?, outcome = ? WHERE id = ?",
                (told.wall_s, plain_text(notice.outcome, TEXT_MOST), ident),
            )

    def _attach(self, attached: Attached) -> None:
        lines = [plain_text(line, LINE_MOST) for line in attached.lines[-LINES_MOST:]]
        self.connection.execute(
            "UPDATE incidents SET log_tail = ? WHERE id = ?", (_json(lines), attached.incident)
        )

    def _sample(self, sampled: Sampled) -> None:
        columns = [to_columns(row) for row in sampled.rows]
        self.connection.executemany(
            "INSERT OR IGNORE INTO subjects (kind, name) VALUES (?, ?)", [entry[:2] for entry in columns]
        )
        self.connection.executemany(
            _SAMPLE,
            [(int(sampled.wall_s), *entry) for entry in columns],
        )

    def _drop_samples(self) -> bool:
        """Delete the oldest tenth of the samples; say whether there was any."""
        count = self._count("samples")
        self.connection.execute(
            """DELETE FROM samples
               WHERE wall_s <= (SELECT wall_s FROM samples ORDER BY wall_s LIMIT 1 OFFSET ?)""",
            (count // 10,),
        )
        return count > 0

    def _drop_oldest(self, condition: str) -> bool:
        """Delete the oldest tenth of the incidents that fit; say whether there was any."""
        query = f"SELECT seq FROM incidents WHERE {condition} ORDER BY seq"  # noqa: S608 - our own words
        found = [row[0] for row in self.connection.execute(query)]
        if not found:
            return False
        self._drop_incidents(f"{condition} AND seq <= ?", found[len(found) // 10])
        return True

    def _drop_incidents(self, condition: str, value: float) -> None:
        self.connection.execute(
            f"DELETE FROM entries WHERE incident IN (SELECT id FROM incidents WHERE {condition})",  # noqa: S608
            (value,),
        )
        self.connection.execute(f"DELETE FROM incidents WHERE {condition}", (value,))  # noqa: S608

    def _count(self, table: str) -> int:
        query = f"SELECT count(*) FROM {table}"  # noqa: S608 - our own words
        count: int = self.connection.execute(query).fetchone()[0]
        return count

    def _size_bytes(self) -> int:
        pages: int = self.connection.execute("PRAGMA page_count").fetchone()[0]
        return pages * PAGE_BYTES


def open_disk(path: Path, max_bytes: int) -> Store:
    """Open the database at `path`, making it where there is none. Raises OSError and sqlite3.Error.

    A quarter of `max_bytes` is left to the write-ahead log, which SQLite lets grow beyond its
    checkpoint by the size of one transaction.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # it holds lines of workers' logs
    connection = _connect(path)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "PRAGMA synchronous = NORMAL"
        )  # a power cut may lose the last second, not the file
        connection.execute(f"PRAGMA journal_size_limit = {max_bytes // 16}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {max(1, max_bytes // 16 // PAGE_BYTES)}")
        connection.execute("PRAGMA cache_size = -512")  # KiB; the default of 2 MiB is a tenth of the daemon
        return Store(connection, max_bytes * 3 // 4)
    except BaseException:
        connection.close()
        raise


def open_memory(max_bytes: int) -> Store:
    """Open an empty database in memory."""
    connection = _connect(":memory:")
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    return Store(connection, max_bytes)


@contextmanager
def read_only(path: Path) -> Generator[sqlite3.Connection]:
    """Open the database at `path` for reading alone."""
    with closing(_connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        yield connection


def _connect(target: Path | str, *, uri: bool = False) -> sqlite3.Connection:
    # Opened by the writing thread and read by others, under `Store.lock`.
    return sqlite3.connect(target, timeout=2.0, isolation_level=None, check_same_thread=False, uri=uri)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Generator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.rollback()
        raise


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
