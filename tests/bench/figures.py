"""What is read of processes, and how figures are shown."""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from msgspec import Struct


class Resident(Struct, frozen=True):
    """Memory of some processes, in bytes; `fair` counts what they share with others in part (PSS)."""

    rss: int
    fair: int


def resident(pids: Iterable[int]) -> Resident:
    found = [_rollup(pid) for pid in pids]
    return Resident(sum(one.rss for one in found), sum(one.fair for one in found))


def _rollup(pid: int) -> Resident:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    kib = {name: int(rest.split()[0]) for name, rest in (line.split(":", 1) for line in lines)}
    return Resident(kib["Rss"] * 1024, kib["Pss"] * 1024)


def cpu_ns(pids: Iterable[int]) -> int:
    """Return the CPU time of all living threads, to the nanosecond (ticks of 10 ms would not do)."""
    return sum(
        int(path.read_text(encoding="ascii").split()[0])
        for pid in pids
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
    )


def children(pid: int) -> list[int]:
    return [
        int(word)
        for path in Path(f"/proc/{pid}/task").glob("*/children")
        for word in path.read_text(encoding="ascii").split()
    ]


def until(true: Callable[[], bool], what: str, within_s: float, pause_s: float = 0.02) -> None:
    """Wait until something is so; raises TimeoutError where it does not come."""
    deadline_s = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not within {within_s:.0f} s: {what}")
        time.sleep(pause_s)


class Births:
    """The file in which each worker notes its birth: nanoseconds of CLOCK_MONOTONIC, and its pid."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = 0

    def all(self) -> list[tuple[int, int]]:
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="ascii").splitlines()
        return [(int(born), int(pid)) for born, pid in (line.split() for line in lines)]

    def count(self) -> int:
        return self.path.read_bytes().count(b"\n") if self.path.exists() else 0

    def living(self) -> list[int]:
        return [pid for _, pid in self.all() if runs(pid)]


def runs(pid: int) -> bool:
    """Say whether a process of that pid runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def median_ms(spans_ns: Sequence[int]) -> float:
    return statistics.median(spans_ns) / 1e6


def p99_ms(spans_ns: Sequence[int]) -> float:
    return sorted(spans_ns)[min(len(spans_ns) - 1, round(0.99 * (len(spans_ns) - 1)))] / 1e6


def times(theirs: float, ours: float) -> str:
    """Show how many times ours fits into theirs."""
    if ours <= 0:
        return "-"
    ratio = theirs / ours
    return f"{ratio:.0f} x" if ratio >= 9.95 else f"{ratio:.1f} x"


def aim(found: float, limit: float, unit: str) -> str:
    """Say whether a figure is within what the project aims at."""
    verdict = "met" if found <= limit else "missed"
    return f"aim {verdict}: {found:.3g} {unit}, at most {limit:g} {unit}"


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out one table as Markdown, which reads as well on a terminal."""
    lines = [list(heads), *(list(row) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(heads))]

    def laid_out(line: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        return f"| {' | '.join(cells)} |"

    rule = (
        "|" + "|".join("-" * (width + 1) + ("-" if at == 0 else ":") for at, width in enumerate(widths)) + "|"
    )
    return "\n".join(["", f"### {title}", "", laid_out(lines[0]), rule, *map(laid_out, lines[1:])])


def pid_of(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
