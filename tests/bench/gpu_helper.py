"""Print what the NVML helper costs, over the stand-in driver: `python tests/bench/gpu_helper.py`.

It shows our own share only; what a real driver adds to each call stands in no figure here.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from supervisor.sense.gpu.sensor import GpuSensor  # noqa: E402
from support.fakenvml.state import GIB, FakeDriver  # noqa: E402 - the path comes first
from support.gpu_fixtures import build_library, children  # noqa: E402

ROUNDS = 1000


async def measure(driver: FakeDriver) -> dict[str, float]:
    """Return the figures: seconds, and bytes."""
    told = asyncio.Event()
    sensor = GpuSensor(tell=told.set, environment={**os.environ, **driver.environment})
    began_s = time.perf_counter()
    await sensor.start()
    await told.wait()
    figures = {"first_s": time.perf_counter() - began_s}
    (pid,) = children()
    ours_s, theirs_s = time.process_time(), cpu_s(pid)
    trips_s: list[float] = []
    for _ in range(ROUNDS):
        told.clear()
        before_s = time.perf_counter()
        sensor.request()
        await told.wait()
        trips_s.append(time.perf_counter() - before_s)
    figures["median_s"] = statistics.median(trips_s)
    figures["p99_s"] = statistics.quantiles(trips_s, n=100)[98]
    figures["daemon_cpu_s"] = (time.process_time() - ours_s) / ROUNDS
    figures["helper_cpu_s"] = (cpu_s(pid) - theirs_s) / ROUNDS
    figures["rss"], figures["pss"] = resident_bytes(pid)
    await sensor.close()
    return figures


def resident_bytes(pid: int) -> tuple[int, int]:
    """Return RSS and PSS of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {name: int(rest.split()[0]) for name, rest in (line.split(":", 1) for line in lines)}
    return kib["Rss"] * 1024, kib["Pss"] * 1024


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print one row for each size of machine."""
    print(  # noqa: T201 - a benchmark prints its table
        "GPUs  processes  RSS MiB  PSS MiB  first ms  median us  p99 us  daemon CPU us  helper CPU us"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = build_library(folder)
        for gpus, processes in ((1, 1), (2, 4), (8, 16)):
            driver = FakeDriver(library, folder / f"state-{gpus}", gpus)
            for index in range(gpus):
                driver.gpu(index).run(*((1000 + number, GIB) for number in range(processes)))
            found = asyncio.run(measure(driver))
            print(row(gpus, processes, found))  # noqa: T201


def row(gpus: int, processes: int, found: dict[str, float]) -> str:
    """Return one row of the table."""
    sizes = f"{gpus:4}  {processes:9}  {found['rss'] / 2**20:7.1f}  {found['pss'] / 2**20:7.1f}"
    times = f"{found['first_s'] * 1e3:8.1f}  {found['median_s'] * 1e6:9.0f}  {found['p99_s'] * 1e6:6.0f}"
    cpu = f"{found['daemon_cpu_s'] * 1e6:13.0f}  {found['helper_cpu_s'] * 1e6:13.0f}"
    return f"{sizes}  {times}  {cpu}"


if __name__ == "__main__":
    main()
