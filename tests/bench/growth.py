# ruff: noqa: T201 - a benchmark prints
"""How long after a worker crosses its cap, or the machine its floor, a signal arrives.

Nothing here takes more than 2 GiB, or lives longer than 45 s.
"""

import mmap
import struct
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from msgspec import Struct

from bench.figures import aim, median_ms, p99_ms, runs, table, times, until
from bench.peers import Ours, Peer, Pm2
from supervisor.model.headroom import effective_available
from supervisor.model.reading import Missing
from supervisor.sense.host import HostSensor

MIB: Final = 1 << 20
GB: Final = 10**9
PAGE_BYTES: Final = 64
NEVER: Final = (1 << 64) - 1
AIM_MS: Final = 100
BEFORE_GO_S: Final = 3.0  # the daemon has seen the worker at rest, and a look is not near by design


class Growth(Struct, frozen=True):
    """How one worker grows. Bytes, and bytes a second; a rate of 0 is a jump."""

    start: int
    rate: int
    limit: int
    mark: int = NEVER
    floor: int = 0
    stubborn: bool = False

    def words(self) -> tuple[str, ...]:
        numbers = (self.start, self.rate, self.limit, self.mark, self.floor)
        return (*map(str, numbers), *(["stubborn"] if self.stubborn else []))


class Seen(Struct, frozen=True):
    """What the worker noted, in ns; 0 for what did not happen."""

    go: int
    crossed: int
    told: int
    alive: int
    held: int


class Page:
    """The page that is shared with one worker."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(PAGE_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), PAGE_BYTES)

    def go(self) -> None:
        self._map[:8] = struct.pack("=Q", time.monotonic_ns())

    def read(self) -> Seen:
        return Seen(*struct.unpack("=5Q", self._map[:40]))

    def close(self) -> None:
        self._map.close()


def one_round(peer: Peer, worker: str, growth: Growth, offset_s: float, within_s: float) -> Seen:
    """Let one worker grow until it dies; `offset_s` shifts it against the daemon's looks."""
    with closing(Page(peer.folder / "page")) as page, closing(peer):
        peer.start([worker, "grow", str(peer.births.path), str(page.path), *growth.words()], 1)
        until(lambda: page.read().held >= growth.start, "the worker has its first memory", 20.0)
        time.sleep(BEFORE_GO_S + offset_s)
        pid = peer.births.all()[-1][1]
        page.go()
        until(lambda: not runs(pid), "a signal for the worker", within_s, 0.005)
        return page.read()


def bench_cap(make: Callable[..., list[Peer]], worker: Path, rounds: int) -> None:
    """Print how long it takes from the crossing of a cap to the stop signal."""
    shapes = {
        "1 GB/s through a cap of 1 GB": Growth(100 * MIB, GB, 1800 * MIB, GB),
        "200 MB/s through a cap of 500 MB": Growth(100 * MIB, GB // 5, 1800 * MIB, GB // 2),
        "a jump from 50 to 150 MB, cap 100 MB": Growth(50 * 10**6, 0, 150 * 10**6, 100 * 10**6),
    }
    rows: list[tuple[str, ...]] = []
    verdict = ""
    for what, growth in shapes.items():
        print(f"cap: {what}", file=sys.stderr)
        found = [
            one_round(_capped(make, growth.mark), str(worker), growth, 2 * at / rounds, 30.0)
            for at in range(rounds)
        ]
        spans = [seen.told - seen.crossed for seen in found if seen.told and seen.crossed]
        held = [seen.held - growth.mark for seen in found]
        rows.append(_row(what, spans, held, median_ms(spans)))
        verdict = verdict or aim(median_ms(spans), AIM_MS, "ms")
    rows += _pm2_rows(make, worker)
    heads = ("", "rounds", "median ms", "", "p99 ms", "beyond, median MB")
    print(table("cap crossed to the stop signal, 3 of 5 samples, looks every 2 s", heads, rows))
    print(f"\nmedian at 1 GB/s, {verdict}")


def _row(what: str, spans: list[int], beyond: list[int], ours_ms: float) -> tuple[str, ...]:
    middle = sorted(beyond)[len(beyond) // 2] / 1e6
    ratio = times(median_ms(spans), ours_ms)
    return (what, str(len(spans)), f"{median_ms(spans):.0f}", ratio, f"{p99_ms(spans):.0f}", f"{middle:.0f}")


def _capped(make: Callable[..., list[Peer]], cap: int) -> Peer:
    (peer,) = make(Ours)
    assert isinstance(peer, Ours)
    peer.defaults = _defaults(cap)
    return peer


def _defaults(cap: int | None) -> Mapping[str, object]:
    found: dict[str, object] = {"breach": {"samples": 3, "of": 5, "warm_up": "0s"}}
    return found if cap is None else found | {"memory": {"cap": f"{cap}B"}}


def _pm2_rows(make: Callable[..., list[Peer]], worker: Path) -> list[tuple[str, ...]]:
    """Measure PM2's max_memory_restart once: it looks every 30 s."""
    found = make(Pm2)
    if not found:
        return []
    (peer,) = found
    assert isinstance(peer, Pm2)
    peer.memory = str(100 * 10**6)
    print("cap: PM2, one round", file=sys.stderr)
    seen = one_round(peer, str(worker), Growth(50 * 10**6, 0, 150 * 10**6, 100 * 10**6), 0.0, 45.0)
    if not seen.told:
        return []
    return [("the jump under PM2 (one round)", "1", f"{(seen.told - seen.crossed) / 1e6:.0f}", "", "", "50")]


def bench_floor(make: Callable[..., list[Peer]], worker: Path, rounds: int) -> None:
    """Print how long it takes from MemAvailable below the floor to the stop signal, and to SIGKILL.

    The worker ignores the stop signal, for which an emergency leaves it 2 s. Below half of the floor it
    would be killed at once, which cannot be shown without taking half of the machine's memory.
    """
    rows: list[tuple[str, ...]] = []
    for what, rate in {"1 GB/s": GB, "4 GB/s": 4 * GB}.items():
        print(f"floor: {what}", file=sys.stderr)
        found = [_floor_round(make, worker, rate, at / rounds) for at in range(rounds)]
        spans = [seen.told - seen.crossed for seen in found if seen.told and seen.crossed]
        ends = [seen.alive - seen.crossed for seen in found if seen.crossed]
        middle = [f"{median_ms(spans):.0f}", f"{p99_ms(spans):.0f}", f"{median_ms(ends):.0f}"]
        rows.append((what, str(len(spans)), *middle))
    heads = ("growth", "rounds", "to SIGTERM, median ms", "p99 ms", "to SIGKILL, median ms")
    print(table("floor of the machine's memory crossed (glances every 0.1 to 1 s, by headroom)", heads, rows))


def _floor_round(make: Callable[..., list[Peer]], worker: Path, rate: int, offset_s: float) -> Seen:
    (peer,) = make(Ours)
    assert isinstance(peer, Ours)
    start = 300 * MIB
    left = effective_available(HostSensor().read(0.0))
    assert not isinstance(left, Missing)
    floor = left - start - 800 * MIB
    peer.extra = (
        f"host: {{warn_available: {floor + 100 * MIB}B, critical_available: {floor}B, pressure: null}}\n"
    )
    peer.defaults = {"stop_timeout": "5s"}
    growth = Growth(start, rate, 2000 * MIB, NEVER, floor, stubborn=True)
    return one_round(peer, str(worker), growth, offset_s, 30.0)
