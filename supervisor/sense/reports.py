"""Reading a worker's reports. Every datagram is hostile until it is read."""

from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from supervisor.model.news import Reported
from supervisor.model.report import VERSION, MemoryReport, Report

LARGEST: Final = 4096  # bytes; a longer report is ignored as a whole
LONGEST_TEXT: Final = 200  # characters
MOST_STAGES: Final = 64
FIRST_BYTE: Final = b"{"

_REPORTS: Final = msgspec.json.Decoder(Report)
_FIGURES: Final = frozenset(MemoryReport.__struct_fields__)
# What msgspec raises: also for bytes that are no UTF-8, and for arrays within arrays within arrays.
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Unread(Struct, frozen=True):
    """Why a datagram is no report that this daemon can read."""

    why: str


class _Versioned(Struct, frozen=True):
    v: int


def read_report(datagram: bytes) -> Report | Unread:
    """Return what a worker reports, its texts printable and cut to 200 characters. Never raises."""
    if len(datagram) > LARGEST:
        return Unread(f"it has more than {LARGEST} bytes")
    try:
        report = _REPORTS.decode(datagram)
    except _UNREADABLE as error:
        return Unread(_why(datagram, error))
    return _clean(report)


def merge(earlier: Reported, later: Reported) -> Reported:
    """Return two reports of one run as one: the newer state, and all that was said once."""
    old, new = earlier.report, later.report
    report = new
    if (old.ready and not new.ready) or (old.poisoned is not None and new.poisoned is None):
        report = replace(new, ready=True if old.ready else new.ready, poisoned=new.poisoned or old.poisoned)
    beat_s = earlier.beat_s if later.beat_s is None else later.beat_s
    return Reported(
        later.worker, later.run, report, later.heard_s, beat_s, quiet=earlier.quiet and later.quiet
    )


def is_quiet(former: Report | None, report: Report) -> bool:
    """Say whether a report can wait for the next look: nothing in it that is acted on has changed."""
    if former is None:
        return False
    return _acted_on(former) == _acted_on(report)


def _acted_on(report: Report) -> tuple[object, ...]:
    ooms = 0 if report.memory is None else report.memory.oom_events
    return report.ready, report.drained, report.level, report.poisoned, ooms


def _why(datagram: bytes, error: Exception) -> str:
    try:
        version = msgspec.json.decode(datagram, type=_Versioned).v
    except _UNREADABLE:
        version = VERSION
    if version != VERSION:
        return f"it speaks version {version} of the protocol, and this supervisor version {VERSION}"
    return printable(str(error)) or type(error).__name__


def printable(text: str) -> str:
    """Return the first 200 characters of a text without those that steer a terminal."""
    cut = text[:LONGEST_TEXT]
    return cut if cut.isprintable() else "".join(one for one in cut if one.isprintable())


def _clean(report: Report) -> Report:
    """Return a report with its texts made fit to be shown, kept and logged."""
    memory, advice, progress, poisoned = report.memory, report.advice, report.progress, report.poisoned
    if memory is not None and memory.missing:
        whys = {name: printable(why) for name, why in memory.missing.items() if name in _FIGURES}
        memory = replace(memory, missing=whys)
    if advice is not None and advice.stages_off:
        stages = tuple(printable(stage) for stage in advice.stages_off[:MOST_STAGES])
        advice = replace(advice, stages_off=stages)
    if progress is not None and printable(progress.job) != progress.job:
        progress = replace(progress, job=printable(progress.job))
    if poisoned is not None:
        poisoned = printable(poisoned) or "it does not say why"
    if (memory, advice, progress, poisoned) == (
        report.memory,
        report.advice,
        report.progress,
        report.poisoned,
    ):
        return report
    return replace(report, memory=memory, advice=advice, progress=progress, poisoned=poisoned)
