# ruff: noqa: T201 - a benchmark prints
"""What it costs to see the processes of 10, 500 and 1,000 workers, beside psutil. Prints a table.

python tests/bench/sense.py [WORKERS ...]
"""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

from supervisor.model.snapshot import Identity
from supervisor.sense.forest import Forest, Root
from supervisor.sense.host import HostSensor
from supervisor.sense.procfs import RUN_VARIABLE, boot_id, read_stat

PROC: Final = Path("/proc")
ROUNDS: Final = 15
QUADRATIC_SAMPLE: Final = 5  # workers for which psutil is asked for the children of each


def median_us(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the median time of one call, the first one not counted."""
    work()
    spans: list[float] = []
    for _ in range(rounds):
        begin_s = time.perf_counter()
        work()
        spans.append(time.perf_counter() - begin_s)
    return statistics.median(spans) * 1e6


def roots(processes: Iterable[subprocess.Popen[bytes]]) -> list[Root]:
    boot = boot_id(PROC)
    found: list[Root] = []
    for at, process in enumerate(processes):
        stat = read_stat(PROC, process.pid)
        assert stat is not None
        found.append(Root(f"worker-{at}", f"bench-{at}", Identity(boot, process.pid, stat.start_ticks)))
    return found


def look(forest: Forest, runs: Sequence[str]) -> None:
    forest.refresh()
    for run in runs:
        forest.sight(run, 0.0)


def psutil_shared_out(kept: Sequence[psutil.Process]) -> None:
    """One pass over all processes for the trees, and the RSS of each worker: psutil at its cheapest."""
    parents = {process.pid: process.info["ppid"] for process in psutil.process_iter(["ppid"])}
    for process in kept:
        if process.pid in parents:
            process.memory_info()


def psutil_each(kept: Sequence[psutil.Process]) -> None:
    """As it is usually written: for each worker its children, and the sum of their memory."""
    for process in kept:
        for member in (process, *process.children(recursive=True)):
            member.memory_info()


def psutil_anon(kept: Sequence[psutil.Process]) -> None:
    """Anonymous and shared memory apart from files, which psutil takes from the page tables."""
    for process in kept:
        process.memory_full_info()


def measure(workers: int) -> None:
    processes = [
        subprocess.Popen(["/bin/sleep", "600"], start_new_session=True, env={RUN_VARIABLE: f"bench-{at}"})
        for at in range(workers)
    ]
    try:
        print_rows(workers, processes)
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def print_rows(workers: int, processes: Sequence[subprocess.Popen[bytes]]) -> None:
    forest = Forest()
    tracked = roots(processes)
    begin_s = time.perf_counter()
    for root in tracked:
        forest.track(root)
    forest.refresh()
    first_us = (time.perf_counter() - begin_s) * 1e6
    runs = [root.run for root in tracked]
    ours_us = median_us(lambda: look(forest, runs)) / workers

    kept = [psutil.Process(process.pid) for process in processes]
    few = kept[:QUADRATIC_SAMPLE]
    rows = [
        ("refresh and sight of all", ours_us),
        ("  refresh", median_us(forest.refresh) / workers),
        ("  sight", median_us(lambda: [forest.sight(run, 0.0) for run in runs]) / workers),
        ("  refresh, nothing remembered", median_us(lambda: forest.refresh(full=True)) / workers),
        ("  track all and the first pass", first_us / workers),
        ("psutil, one pass shared out, RSS", median_us(lambda: psutil_shared_out(kept), 5) / workers),
        ("psutil, memory_full_info, no trees", median_us(lambda: psutil_anon(kept), 5) / workers),
        ("psutil, children(recursive) of each", median_us(lambda: psutil_each(few), 3) / len(few)),
    ]
    print(f"\n{workers} workers, {len(psutil.pids())} processes on the machine")
    for name, each_us in rows:
        print(f"  {name:38} {each_us:9.1f} us a worker {each_us / ours_us:8.1f} x")
    print(f"  a look every 2 s costs {ours_us * workers / 2e6:.3%} of a core")
    forest.close()


def main() -> None:
    """Measure each number of workers, and the host by itself."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sensor = HostSensor()
    host_us = median_us(lambda: sensor.read(0.0), 200)
    psutil_us = median_us(lambda: (psutil.virtual_memory(), psutil.swap_memory()), 200)
    print(f"host memory, PSI and scans: {host_us:.1f} us; psutil's memory and swap: {psutil_us:.1f} us")
    for workers in [int(word) for word in sys.argv[1:]] or [10, 500, 1000]:
        measure(workers)


if __name__ == "__main__":
    main()
