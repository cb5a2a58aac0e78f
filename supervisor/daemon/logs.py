"""The log of the daemon: one line for a change, for the journal, for machines or for a terminal."""

import os
import re
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final, Literal, TextIO, cast

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger

from supervisor.daemon.log_outlet import JOURNAL, Line, Outlet, StreamWriter, journal_entry, journal_writer
from supervisor.daemon.log_text import text_of
from supervisor.daemon.wording import plain_fields, plain_text
from supervisor.model.action import Field, Level, Notice
from supervisor.model.status import WorkerStatus

Kind = Literal["journal", "json", "console"]

LEVELS: Final[Mapping[Level, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
PRIORITIES: Final[Mapping[str, int]] = {"debug": 7, "info": 6, "warning": 4, "error": 3}  # syslog(3)
TEXT_MOST: Final = 8192  # characters of one value: an entry of the journal stays within one datagram
_COLOURS: Final[Mapping[str, str]] = {"debug": "2", "info": "32", "warning": "33", "error": "31;1"}
_RESERVED: Final = frozenset(
    {"timestamp", "level", "event", "worker", "gpu", "cause", "reason", "incident", "outcome"}
    | {"self", "method_name"}  # names of structlog's own arguments
)
_NO_FIELD: Final = re.compile(r"[^A-Z0-9_]")
_OWN: Final = frozenset({"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "EVENT"})


def choose_kind(stream: TextIO, environ: Mapping[str, str]) -> Kind:
    """Say how to log to `stream`: as systemd's journal where that reads it, else by whether people do."""
    try:
        seen = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or no file at all
        return "json"
    if environ.get("JOURNAL_STREAM") == f"{seen.st_dev}:{seen.st_ino}":
        return "journal"
    return "console" if stream.isatty() else "json"


def wants_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Say whether colour may be used: on a terminal, unless NO_COLOR (no-color.org) or TERM forbid it."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


class NoticeLog:
    """The log: notices by calling it, other lines through `logger`, a structlog logger.

    Nothing here waits or raises; any thread may call. A line that nobody takes is dropped and counted.
    """

    def __init__(self, logger: FilteringBoundLogger, outlet: Outlet) -> None:
        """Write through `logger`, which ends in `outlet`; `configure` makes both."""
        self.logger = logger
        self._outlet = outlet

    def __call__(self, notice: Notice) -> None:
        """Write one line for a notice."""
        named: dict[str, Field] = {
            "worker": notice.worker,
            "gpu": notice.gpu,
            "cause": None if notice.cause is None else notice.cause.value,
            "reason": notice.reason or None,
            "incident": notice.incident,
            "outcome": notice.outcome,
        }
        fields: dict[str, Field] = {name: value for name, value in named.items() if value is not None}
        for name, value in notice.fields.items():
            fields[f"field_{name}" if name in _RESERVED else name] = value
        self.logger.log(LEVELS[notice.level], notice.event, **fields)

    @property
    def dropped(self) -> int:
        """How many lines were lost."""
        return self._outlet.dropped

    def flush(self, within_s: float) -> bool:
        """Wait until everything is written; False when that takes longer. Not for the loop."""
        return self._outlet.flush(within_s)

    def close(self, within_s: float = 1.0) -> None:
        """Write what waits, for `within_s` at most."""
        self._outlet.close(within_s)


def configure(
    stream: TextIO, kind: Kind, *, colour: bool = False, level: Level = "info", journal: Path = JOURNAL
) -> NoticeLog:
    """Make a log that writes to `stream` in the way of `kind`; to be closed at the end."""
    write = StreamWriter(stream.fileno())
    renderer = _Renderer(kind, colour=colour)
    writer = journal_writer(journal, write) if kind == "journal" else write
    outlet = Outlet(writer, renderer.lost, write.close)
    bound = structlog.wrap_logger(
        outlet,
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        cache_logger_on_first_use=True,
    )
    return NoticeLog(cast("FilteringBoundLogger", bound), outlet)


def healthy_line(worker: WorkerStatus) -> Notice:
    """Return the line that is written each minute for a worker that is ready."""
    fields: dict[str, Field] = {"pid": worker.pid, "age_s": _tenth(worker.age_s)}
    if worker.max_age_s is not None:
        fields["max_age_s"] = _tenth(worker.max_age_s)
    fields["memory_bytes"] = worker.memory_bytes
    if worker.memory_cap_bytes is not None:
        fields["memory_cap_bytes"] = worker.memory_cap_bytes
    if worker.vram_bytes is not None or worker.vram_cap_bytes is not None:
        fields["vram_bytes"] = worker.vram_bytes
    if worker.vram_cap_bytes is not None:
        fields["vram_cap_bytes"] = worker.vram_cap_bytes
    if worker.restart_in_s is not None:
        fields["restart_in_s"] = _tenth(worker.restart_in_s)
    return Notice("info", "worker healthy", "", worker=worker.name, fields=fields)


class _Renderer:
    """The last of structlog's processors: from a line's fields to its bytes."""

    def __init__(self, kind: Kind, *, colour: bool) -> None:
        self._kind = kind
        self._colour = colour

    def __call__(
        self, _logger: object, _name: str, line: MutableMapping[str, Any]
    ) -> tuple[Line, dict[str, Any]]:
        return self._render(line), {}

    def lost(self, count: int) -> Line:
        """Return the line that says how many were lost before it."""
        stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        line = {"event": "log lines lost", "level": "warning", "count": count}
        return self._render(stamp(None, "", line))

    def _render(self, line: MutableMapping[str, Any]) -> Line:
        event, level, stamp = (
            plain_text(str(line.pop(key)), TEXT_MOST) for key in ("event", "level", "timestamp")
        )
        fields = plain_fields({str(name): _field(value) for name, value in line.items()}, TEXT_MOST)
        if self._kind == "json":
            return (
                msgspec.json.encode({"timestamp": stamp, "level": level, "event": event, **fields}) + b"\n",
            )
        text = text_of(event, fields)
        if self._kind == "journal":
            priority = PRIORITIES.get(level, 6)
            return _entry(text, event, priority, fields), f"<{priority}>{text}\n".encode()
        label = f"\x1b[{_COLOURS.get(level, '0')}m{level}\x1b[0m" if self._colour else level
        return (f"{stamp[:19]}Z {label} {text}\n".encode(),)


def _entry(text: str, event: str, priority: int, fields: Mapping[str, Field]) -> bytes:
    entry = {
        "MESSAGE": text,
        "PRIORITY": str(priority),
        "SYSLOG_IDENTIFIER": "gpu-supervisor",
        "EVENT": event,
    }
    for name, value in fields.items():
        key = _NO_FIELD.sub("_", name.upper()).lstrip("_0123456789")[:64]
        if key and key not in _OWN and value is not None:
            entry[key] = str(value).lower() if isinstance(value, bool) else str(value)
    return journal_entry(entry)


def _field(value: object) -> Field:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _tenth(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
