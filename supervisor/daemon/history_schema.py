"""The tables of the history, as the steps from each version of them to the next."""

import sqlite3
from typing import Final

# A new file runs through all steps; PRAGMA user_version counts those that were taken.
STEPS: Final = (
    """
    CREATE TABLE incidents (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        worker TEXT, gpu TEXT, cause TEXT,
        reason TEXT NOT NULL,
        opened_wall_s REAL NOT NULL,
        closed_wall_s REAL,
        outcome TEXT,
        fields TEXT NOT NULL,
        log_tail TEXT
    );
    CREATE INDEX incidents_opened ON incidents (opened_wall_s);
    CREATE TABLE entries (
        seq INTEGER PRIMARY KEY,
        incident TEXT NOT NULL,
        wall_s REAL NOT NULL,
        level TEXT NOT NULL, event TEXT NOT NULL, reason TEXT NOT NULL, fields TEXT NOT NULL
    );
    CREATE INDEX entries_incident ON entries (incident);
    CREATE TABLE kept (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    """,
    # Ordered by time, so that the oldest samples lie together and their pages come free as one.
    """
    CREATE TABLE subjects (
        seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (kind, name)
    );
    CREATE TABLE samples (
        wall_s INTEGER NOT NULL,
        subject INTEGER NOT NULL,
        a, b, c, d,
        PRIMARY KEY (wall_s, subject)
    ) WITHOUT ROWID;
    """,
)


class NewerSchemaError(Exception):
    """The file was written by a newer version than this one."""


def upgrade(connection: sqlite3.Connection) -> None:
    """Bring the tables to the newest version, each step whole or not at all.

    Raises NewerSchemaError where they are beyond it, and sqlite3.Error.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(STEPS):
        raise NewerSchemaError(f"it has version {version}, and this program knows {len(STEPS)}")
    for number, step in enumerate(STEPS[version:], start=version + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {step} PRAGMA user_version = {number}; COMMIT;")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.rollback()
            raise
