"""What a check found: how bad it is, what was seen, and what to do."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from msgspec import Struct

from supervisor.model.reading import Missing

RUNBOOKS: Final = "docs/runbooks"


class Severity(StrEnum):
    """How bad it is; the worst last."""

    OK = "ok"
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Finding(Struct, frozen=True):
    """One thing that was looked at. `id` is stable; `subject` is whose it is, empty for the machine's."""

    severity: Severity
    id: str
    seen: str
    do: str = ""
    subject: str = ""
    runbook: str | None = None
    lines: tuple[str, ...] = ()


def ok(ident: str, seen: str, subject: str = "", lines: tuple[str, ...] = ()) -> Finding:
    """Return that a thing is as it should be."""
    return Finding(Severity.OK, ident, seen, subject=subject, lines=lines)


def not_looked_at(what: str, missing: Missing, do: str = "") -> Finding:
    """Return that a check could not be made, and why."""
    return Finding(Severity.INFO, f"{what}-not-looked-at", f"not looked at: {missing.why}", do)


def page(name: str) -> str:
    """Return where the runbook page of that name is."""
    return f"{RUNBOOKS}/{name}.md"


Findings = Iterator[Finding]
