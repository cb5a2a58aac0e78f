# ruff: noqa: T201 - a benchmark prints
"""What a supervisor costs while nothing happens, and how long it takes to start and stop many workers."""

import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from msgspec import Struct

from bench.figures import Resident, aim, cpu_ns, resident, table, times
from bench.peers import Ours, Peer

SETTLE_S: Final = 3.0  # after the last worker was born
MIB: Final = 1 << 20
RSS_AIM_MIB: Final = 30
CPU_AIM: Final = {10: 0.1, 1000: 5.0}  # percent of a core, by workers


class Cost(Struct, frozen=True):
    """One supervisor with one number of workers."""

    name: str
    workers: int
    memory: Resident
    processes: int
    cpu_percent: float
    start_s: float
    stop_s: float


def measure(peers: Sequence[Peer], worker: str, workers: int, seconds: float) -> list[Cost]:
    """Start each in turn, leave all of them idle together, and stop each in turn."""
    if not peers:
        return []
    with ExitStack() as after:
        starts = [_timed(partial(_started, after, peer, worker, workers)) for peer in peers]
        time.sleep(SETTLE_S)
        daemons = [peer.daemons() for peer in peers]
        before = [cpu_ns(pids) for pids in daemons]
        began_s = time.monotonic()
        time.sleep(seconds)
        spent = [cpu_ns(pids) - past for pids, past in zip(daemons, before, strict=True)]
        spent_percent = [100 * each / 1e9 / (time.monotonic() - began_s) for each in spent]
        memory = [resident(pids) for pids in daemons]
        stops = [_stopped(peer) for peer in peers]
    return [
        Cost(peer.name, workers, memory[at], len(daemons[at]), spent_percent[at], starts[at], stops[at])
        for at, peer in enumerate(peers)
    ]


def _started(after: ExitStack, peer: Peer, worker: str, workers: int) -> None:
    after.callback(peer.close)
    peer.start([worker, "idle", str(peer.births.path)], workers)


def _stopped(peer: Peer) -> float:
    try:
        return _timed(peer.stop)
    except (TimeoutError, subprocess.TimeoutExpired):  # circus hangs now and then
        return math.inf


def _timed(work: Callable[[], None]) -> float:
    began_s = time.monotonic()
    work()
    return time.monotonic() - began_s


def bench(make: Callable[..., list[Peer]], worker: Path, seconds: float, counts: Sequence[int]) -> None:
    """Print a table for each number of workers, the peers' where there are at most 500 of them."""
    for workers in counts:
        print(f"idle: {workers} workers for {seconds:.0f} s", file=sys.stderr)
        costs = measure(make(Ours), str(worker), workers, seconds)  # by itself: it reads the whole of /proc
        if workers <= 500:  # beyond that they take minutes to start and stop
            costs += measure(make(), str(worker), workers, seconds)
        _print(workers, seconds, costs)


def _print(workers: int, seconds: float, costs: Sequence[Cost]) -> None:
    ours = costs[0]
    heads = ("", "RSS MiB", "", "PSS MiB", "", "CPU % of a core", "", "start s", "", "stop s", "")
    rows = [
        (
            one.name + (f" ({one.processes} processes)" if one.processes > 1 else ""),
            f"{one.memory.rss / MIB:.1f}",
            times(one.memory.rss, ours.memory.rss),
            f"{one.memory.fair / MIB:.1f}",
            times(one.memory.fair, ours.memory.fair),
            f"{one.cpu_percent:.3f}",
            times(one.cpu_percent, ours.cpu_percent),
            f"{one.start_s:.2f}",
            times(one.start_s, ours.start_s),
            f"{one.stop_s:.2f}",
            times(one.stop_s, ours.stop_s),
        )
        for one in costs
    ]
    print(table(f"{workers} idle workers for {seconds:.0f} s, then all of them stopped", heads, rows))
    print(f"\nRSS, {aim(ours.memory.rss / MIB, RSS_AIM_MIB, 'MiB')}")
    if workers in CPU_AIM:
        print(f"CPU, {aim(ours.cpu_percent, CPU_AIM[workers], '% of a core')}")
