"""The kernel's log: faults of GPUs (Xid) and kills for want of memory."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from supervisor.cli.diagnose.facts import Facts, KernelLine
from supervisor.cli.diagnose.finding import Finding, Findings, Severity, not_looked_at, ok, page
from supervisor.model.reading import Missing

XID: Final = re.compile(r"NVRM: Xid \(PCI:[0-9a-fA-F:.]+\): (\d+)")
LOST: Final = re.compile(r"NVRM: .*fallen off the bus")  # newer drivers tell it without a number
KILLED: Final = re.compile(r"(Memory cgroup out|Out) of memory(?: \([a-z_]+\))?: Kill(?:ed)? process \d+ \(")
NOTABLE: Final = re.compile(
    r"NVRM|nvidia|[Oo]ut of memory|oom-kill|oom_reaper|fallen off the bus|blocked for more than|segfault"
)
# Faults of the program that used the GPU, not of the card: k8s-device-plugin#1340 leaves the same out.
OF_PROGRAMS: Final = frozenset({13, 31, 43, 45, 68, 109})
SHOWN: Final = 5
RECENT_S: Final = 86400.0  # what is older is told, and nobody is woken for it


def check_kernel_log(facts: Facts) -> Findings:
    """Look for faults since boot."""
    if isinstance(facts.kernel_log, Missing):
        do = "`sudo gpu-supervisor diagnose`, or be a member of group `systemd-journal`"
        yield not_looked_at("kernel-log", facts.kernel_log, do)
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


def _xids(lines: tuple[KernelLine, ...], now_s: float) -> Iterator[Finding]:
    told = [(line, XID.search(line.text)) for line in lines]
    programs = [line for line, xid in told if xid is not None and int(xid[1]) in OF_PROGRAMS]
    cards = [
        line
        for line, xid in told
        if LOST.search(line.text) or (xid is not None and int(xid[1]) not in OF_PROGRAMS)
    ]
    if cards:
        seen = f"{_times(cards)} a GPU was at fault (Xid {_numbers(cards)})"
        do = (
            "`nvidia-smi -q -d ECC,ROW_REMAPPER`; stop its workers and reset the GPU, or reboot;"
            " a card that does it again is to be replaced"
        )
        yield Finding(
            _severity(cards, now_s), "kernel-xid", seen, do, "", page("gpu-quarantined"), _newest(cards)
        )
    if programs:
        seen = f"{_times(programs)} a program was at fault on a GPU (Xid {_numbers(programs)})"
        do = "`gpu-supervisor history` names the worker of that time: it or its library, seldom the card"
        yield Finding(
            Severity.WARNING,
            "kernel-xid-program",
            seen,
            do,
            "",
            page("worker-restart-loop"),
            _newest(programs),
        )


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


def _times(lines: list[KernelLine]) -> str:
    return "once since boot" if len(lines) == 1 else f"{len(lines)} times since boot"


def _numbers(lines: list[KernelLine]) -> str:
    found = {int(xid[1]) for line in lines if (xid := XID.search(line.text)) is not None}
    return ", ".join(map(str, sorted(found))) or "not named"


def _newest(lines: list[KernelLine]) -> tuple[str, ...]:
    return tuple(written(line) for line in lines[-SHOWN:])
