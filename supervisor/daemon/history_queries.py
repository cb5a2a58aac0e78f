"""What is asked of the history. Each function reads over a connection that it is given."""

import sqlite3
from itertools import groupby
from typing import Any, Final, Literal

import msgspec

from supervisor.daemon.history_samples import from_columns
from supervisor.model.action import Field
from supervisor.model.course import Course
from supervisor.model.incident import Entry, Incident, IncidentDetail, Sample

BEFORE_S: Final = 600.0  # of readings shown with an incident: a leak shows in ten minutes
AFTER_S: Final = 120.0
OPEN_S: Final = 1800.0  # how much of an incident that is still open
SAMPLES_MOST: Final = 2000

_FIELDS: Final = msgspec.json.Decoder(dict[str, Field])
_LINES: Final = msgspec.json.Decoder(tuple[str, ...])
_COLUMNS: Final = "id, worker, gpu, cause, reason, opened_wall_s, closed_wall_s, outcome, fields"


def find_incidents(
    connection: sqlite3.Connection, worker: str | None, since_wall_s: float | None, limit: int
) -> tuple[Incident, ...]:
    """Return incidents, the newest first, of one worker or of all."""
    rows = connection.execute(
        f"""SELECT {_COLUMNS} FROM incidents
            WHERE (:worker IS NULL OR worker = :worker) AND (:since IS NULL OR opened_wall_s >= :since)
            ORDER BY seq DESC LIMIT :limit""",  # noqa: S608 - our own words
        {"worker": worker, "since": since_wall_s, "limit": limit},
    )
    return tuple(_incident(row) for row in rows)


def find_incident(connection: sqlite3.Connection, ident: str) -> IncidentDetail | None:
    """Return everything about one incident; None where there is none of that name."""
    row = connection.execute(
        f"SELECT {_COLUMNS}, log_tail FROM incidents WHERE id = ?",  # noqa: S608 - our own words
        (ident,),
    ).fetchone()
    if row is None:
        return None
    incident = _incident(row[:-1])
    entries = connection.execute(
        "SELECT wall_s, level, event, reason, fields FROM entries WHERE incident = ? ORDER BY seq", (ident,)
    )
    return IncidentDetail(
        incident=incident,
        timeline=tuple(
            Entry(wall_s, level, event, reason, _FIELDS.decode(fields))
            for wall_s, level, event, reason, fields in entries
        ),
        samples=_around(connection, incident),
        log_tail=() if row[-1] is None else _LINES.decode(row[-1]),
    )


def find_samples(
    connection: sqlite3.Connection, worker: str | None, since_wall_s: float, limit: int
) -> tuple[Sample, ...]:
    """Return samples of one worker, or of the host and every GPU, oldest first: the newest `limit`."""
    wanted = "kind = 'worker' AND name = ?" if worker else "kind != 'worker' AND '' = ?"
    return _samples(connection, wanted, (worker or "",), (since_wall_s, 1e12), limit)


def find_courses(connection: sqlite3.Connection, since_wall_s: float, slot_s: int) -> tuple[Course, ...]:
    """Return the course of every subject since a moment: one value for each slot of `slot_s` seconds."""
    rows = connection.execute(
        """SELECT kind, name, wall_s / :slot_s * :slot_s AS slot,
                  CASE kind WHEN 'host' THEN min(a) ELSE max(a) END, max(c), max(d)
           FROM samples JOIN subjects ON subject = seq WHERE wall_s >= :since
           GROUP BY kind, name, slot ORDER BY kind, name, slot""",
        {"slot_s": slot_s, "since": since_wall_s},
    )
    return tuple(
        _course(kind, name, tuple(columns)) for (kind, name), columns in groupby(rows, lambda row: row[:2])
    )


def _course(kind: Literal["worker", "gpu", "host"], name: str, rows: tuple[tuple[Any, ...], ...]) -> Course:
    slots, first, third, fourth = zip(*(row[2:] for row in rows), strict=True)
    return Course(
        kind,
        name,
        at_s=slots,
        memory_bytes=first,
        vram_bytes=third if kind == "worker" else (),
        utilization_percent=fourth if kind == "gpu" else (),
    )


def _around(connection: sqlite3.Connection, incident: Incident) -> tuple[Sample, ...]:
    end_wall_s = incident.opened_wall_s + OPEN_S
    if incident.closed_wall_s is not None:
        end_wall_s = min(end_wall_s, incident.closed_wall_s + AFTER_S)
    wanted = "(kind = 'worker' AND name = ? OR kind = 'host' OR kind = 'gpu' AND coalesce(?, name) = name)"
    span = (incident.opened_wall_s - BEFORE_S, end_wall_s)
    return _samples(connection, wanted, (incident.worker, incident.gpu), span, SAMPLES_MOST)


def _samples(
    connection: sqlite3.Connection,
    wanted: str,
    values: tuple[str | None, ...],
    span: tuple[float, float],
    limit: int,
) -> tuple[Sample, ...]:
    rows = connection.execute(
        f"""SELECT wall_s, kind, name, a, b, c, d FROM samples JOIN subjects ON subject = seq
            WHERE {wanted} AND wall_s BETWEEN ? AND ? ORDER BY wall_s DESC, subject DESC LIMIT ?""",  # noqa: S608
        (*values, *span, limit),
    ).fetchall()
    return tuple(Sample(float(row[0]), from_columns(row[1:])) for row in reversed(rows))


def _incident(row: tuple[Any, ...]) -> Incident:
    values: dict[str, Any] = dict(zip(Incident.__struct_fields__, row, strict=True))
    return msgspec.convert({**values, "fields": _FIELDS.decode(row[-1])}, Incident)
