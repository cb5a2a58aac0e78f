"""The kernel's log: faults of GPUs (Xid) and kills for want of memory."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from supervisor.cli.diagnose.facts import Facts, KernelLine
from supervisor.cli.diagnose.finding import Finding, Findings, Severity, not_looked_at, ok, page
from supervisor.model.reading import Missing
from supervisor.model.xid import XidKind, kind_of, words_for
from supervisor.sense.kernel_lines import XidLine, parse_line

KILLED: Final = re.compile(r"(Memory cgroup out|Out) of memory(?: \([a-z_]+\))?: Kill(?:ed)? process \d+ \(")
NOTABLE: Final = re.compile(
    r"NVRM|nvidia|[Oo]ut of memory|oom-kill|oom_reaper|fallen off the bus|blocked for more than|segfault"
)
SHOWN: Final = 5
RECENT_S: Final = 86400.0  # what is older is told, and nobody is woken for it


class _Found(Struct, frozen=True):
    """What is said of Xids of one kind; without a severity of its own, it depends on how old they are."""

    ident: str
    what: str
    do: str
    runbook: str | None
    severity: Severity | None = None


# Whose fault each is, the daemon's own table knows: what it quarantines for is critical here.
_FOUND: Final = {
    XidKind.HARDWARE: _Found(
        "kernel-xid",
        "a GPU was at fault",
        "`nvidia-smi -q -d ECC,ROW_REMAPPER`; stop its workers and reset the GPU, or reboot;"
        " a card that does it again is to be replaced",
        page("gpu-quarantined"),
    ),
    XidKind.APPLICATION: _Found(
        "kernel-xid-program",
        "a program was at fault on a GPU",
        "`gpu-supervisor history` names the worker of that time: it or its library, seldom the card",
        page("worker-restart-loop"),
        Severity.WARNING,
    ),
    XidKind.NOTE: _Found(
        "kernel-xid-note",
        "a GPU told of what nobody has to act on at once",
        "`nvidia-smi -q -d ECC,ROW_REMAPPER,PAGE_RETIREMENT`, where it comes again",
        None,
        Severity.INFO,
    ),
}


def check_kernel_log(facts: Facts) -> Findings:
    """Look for faults since boot."""
    if isinstance(facts.kernel_log, Missing):
        do = "`sudo gpu-supervisor diagnose`, or be a member of group `systemd-journal`"
        yield not_looked_at("kernel-log", facts.kernel_log, do)
        yield from _heard(facts)
        return
    lines = facts.kernel_log.lines
    found = [*_xids(lines, facts.taken_wall_s), *_kills(lines, facts.taken_wall_s)]
    seen = f"no Xid and no kill for memory in {len(lines)} lines of {facts.kernel_log.source}"
    yield from found or [ok("kernel-log", seen)]


def is_notable(text: str) -> bool:
    """Tell whether a line of the kernel is one that a report of a bug needs."""
    return NOTABLE.search(text) is not None


def written(line: KernelLine) -> str:
    """Return a line as it is shown, with its time in UTC."""
    if line.wall_s is None:
        return line.text
    return f"{datetime.fromtimestamp(line.wall_s, UTC).strftime('%Y-%m-%dT%H:%M:%SZ')} {line.text}"


def _heard(facts: Facts) -> Iterator[Finding]:
    """Yield what the daemon, which may read the log, has heard of each GPU."""
    for gpu in facts.status.gpus if facts.status is not None else ():
        last = gpu.last_xid
        if last is not None:
            find = _FOUND[kind_of(last.code, last.text)]
            seen = f"{gpu.xids} Xids since boot, the last at {last.at}: {words_for(last.code)}: {last.text}"
            severity = find.severity or Severity.CRITICAL
            yield Finding(severity, find.ident, seen, find.do, f"GPU {gpu.index}", find.runbook)


def _xids(lines: tuple[KernelLine, ...], now_s: float) -> Iterator[Finding]:
    told = _told(lines)
    for kind, find in _FOUND.items():
        of_kind = [(line, xid) for line, xid in told if kind_of(xid.code, xid.text) is kind]
        if of_kind:
            severity = find.severity or _severity([line for line, _ in of_kind], now_s)
            seen = f"{_times(of_kind)} {find.what}: {_named([xid for _, xid in of_kind])}"
            newest = _newest([line for line, _ in of_kind])
            yield Finding(severity, find.ident, seen, find.do, "", find.runbook, newest)


def _told(lines: tuple[KernelLine, ...]) -> list[tuple[KernelLine, XidLine]]:
    """Return the lines that tell of an Xid; one that follows without a number, only where none came."""
    told = [(line, xid) for line in lines if isinstance(xid := parse_line(line.text), XidLine)]
    numbered = {(xid.bus_id, xid.code) for _, xid in told if not xid.companion}
    return [(line, xid) for line, xid in told if not xid.companion or (xid.bus_id, xid.code) not in numbered]


def _named(xids: list[XidLine]) -> str:
    """Return each Xid once, by its number and what it means, and the GPUs."""
    codes = sorted({xid.code for xid in xids})
    named = [words_for(code) for code in codes[:SHOWN]]
    more = [f"{len(codes) - SHOWN} others"] if len(codes) > SHOWN else []
    return f"{', '.join((*named, *more))}, of {', '.join(sorted({xid.bus_id for xid in xids}))}"


def _kills(lines: tuple[KernelLine, ...], now_s: float) -> Iterator[Finding]:
    killed = [(line, found[1]) for line in lines if (found := KILLED.search(line.text)) is not None]
    machine = [line for line, whose in killed if whose == "Out"]
    cgroups = [line for line, whose in killed if whose != "Out"]
    if machine:
        seen = f"{_times(machine)} the machine was out of memory, and the kernel killed what it chose"
        do = (
            "raise `host.critical_available` or lower caps, so that the supervisor acts first;"
            " `gpu-supervisor history --since 1d`"
        )
        yield Finding(
            _severity(machine, now_s),
            "kernel-oom-kill",
            seen,
            do,
            "",
            page("host-memory-low"),
            _newest(machine),
        )
    if cgroups:
        seen = f"{_times(cgroups)} the kernel killed what was at the limit of its cgroup"
        do = (
            "of a worker: set `memory.cap` well below `memory.max`, so that it is restarted gracefully;"
            " `gpu-supervisor history --since 1d`"
        )
        yield Finding(
            Severity.WARNING,
            "kernel-cgroup-oom-kill",
            seen,
            do,
            "",
            page("worker-restart-loop"),
            _newest(cgroups),
        )


def _severity(lines: list[KernelLine], now_s: float) -> Severity:
    """Return critical where the last was within a day, or it cannot be told when it was."""
    last_s = lines[-1].wall_s
    return Severity.CRITICAL if last_s is None or last_s >= now_s - RECENT_S else Severity.WARNING


def _times(found: Sequence[object]) -> str:
    return "once since boot" if len(found) == 1 else f"{len(found)} times since boot"


def _newest(lines: list[KernelLine]) -> tuple[str, ...]:
    return tuple(written(line) for line in lines[-SHOWN:])
