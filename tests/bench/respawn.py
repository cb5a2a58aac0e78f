# ruff: noqa: T201 - a benchmark prints
"""How long after kill -9 the successor of a worker runs its first instruction."""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from bench.figures import aim, median_ms, p99_ms, table, times, until
from bench.peers import Ours, Peer

ROUNDS: Final = 30
BUDGET_S: Final = 20.0  # for each supervisor; a slow one gets fewer rounds
AIM_MS: Final = 10


def measure(peer: Peer, worker: str, workers: int, rounds: int) -> list[int]:
    """Kill the youngest worker again and again; return the spans in nanoseconds."""
    spans: list[int] = []
    with closing(peer):
        peer.start([worker, "idle", str(peer.births.path)], workers)
        time.sleep(2.0)
        until_s = time.monotonic() + BUDGET_S
        while len(spans) < rounds and (time.monotonic() < until_s or not spans):
            spans.append(kill_once(peer))
    return spans


def kill_once(peer: Peer) -> int:
    """Kill the youngest worker; return how long it took to its successor, in nanoseconds."""
    time.sleep(peer.pause_s)
    before = peer.births.count()
    pid = peer.births.all()[-1][1]
    killed_ns = time.monotonic_ns()
    os.kill(pid, signal.SIGKILL)
    until(lambda: peer.births.count() > before, "a successor", 60.0, 0.002)
    return peer.births.all()[-1][0] - killed_ns


def bench(make: Callable[..., list[Peer]], worker: Path, rounds: int, counts: tuple[int, ...]) -> None:
    """Print a table for each number of workers."""
    for workers in counts:
        found: list[tuple[str, list[int]]] = []
        for peer in [*make(Ours), *make()]:
            print(f"respawn: {peer.name}, {workers} workers", file=sys.stderr)
            found.append((peer.name, measure(peer, str(worker), workers, rounds)))
        ours_ms = median_ms(found[0][1])
        rows = [
            (
                name,
                str(len(spans)),
                f"{median_ms(spans):.1f}",
                times(median_ms(spans), ours_ms),
                f"{p99_ms(spans):.1f}",
            )
            for name, spans in found
        ]
        title = f"kill -9 of one of {workers} workers to the first instruction of its successor"
        print(table(title, ("", "rounds", "median ms", "", "p99 ms"), rows))
        print(f"\nmedian, {aim(ours_ms, AIM_MS, 'ms')}")
