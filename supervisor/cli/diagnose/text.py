"""Findings as a person reads them, and as a document."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Final

from supervisor.cli.diagnose.checks.everything import WORST_FIRST
from supervisor.cli.diagnose.finding import Finding, Severity
from supervisor.cli.terminal import Colour, coloured, plain

INDENT: Final = "    "
WIDEST: Final = 120
COLOURS: Final[Mapping[Severity, Colour]] = {
    Severity.CRITICAL: "red",
    Severity.WARNING: "yellow",
    Severity.INFO: "bold",
    Severity.OK: "green",
}


def render(findings: Sequence[Finding], *, verbose: bool, columns: int, colour: bool) -> list[str]:
    """Return the lines of a report; what is good is counted, and listed where `verbose`."""
    width = min(max(columns, 40), WIDEST)
    lines: list[str] = []
    for finding in findings:
        if verbose or finding.severity is not Severity.OK:
            lines += _finding(finding, width, colour=colour)
    return [*lines, _summary(findings)]


def document(findings: Sequence[Finding], *, version: str, taken_at: str) -> dict[str, object]:
    """Return the same as plain values; every finding, also what is good."""
    counts = Counter(finding.severity for finding in findings)
    return {
        "version": version,
        "taken_at": taken_at,
        "counts": {severity.value: counts[severity] for severity in WORST_FIRST},
        "findings": [_plain(finding) for finding in findings],
    }


def is_critical(findings: Sequence[Finding]) -> bool:
    """Tell whether any finding is critical."""
    return any(finding.severity is Severity.CRITICAL for finding in findings)


def _plain(finding: Finding) -> dict[str, object]:
    return {
        "severity": finding.severity.value,
        "id": finding.id,
        "subject": finding.subject or None,
        "seen": finding.seen,
        "do": finding.do or None,
        "runbook": finding.runbook,
        "lines": list(finding.lines),
    }


def _finding(finding: Finding, width: int, *, colour: bool) -> Iterator[str]:
    word = coloured(f"{finding.severity.value:8}", COLOURS[finding.severity], on=colour)
    yield " ".join(filter(None, (word, finding.id, finding.subject and f"({finding.subject})")))
    yield from _wrapped(finding.seen, width)
    yield from (f"{INDENT}| {plain(line)}" for line in finding.lines)
    if finding.do:
        yield from _wrapped(f"do: {finding.do}", width)
    if finding.runbook:
        yield f"{INDENT}see {finding.runbook}"


def _wrapped(text: str, width: int) -> list[str]:
    return wrap(
        plain(text),
        width,
        initial_indent=INDENT,
        subsequent_indent=INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _summary(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.severity for finding in findings)
    warnings = counts[Severity.WARNING]
    return (
        f"{counts[Severity.CRITICAL]} critical, {warnings} warning{'' if warnings == 1 else 's'},"
        f" {counts[Severity.INFO]} to know, {counts[Severity.OK]} good"
    )
