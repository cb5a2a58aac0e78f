"""Print how long the page of metrics takes with 500 workers, beside text that is written by hand."""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path[:1] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from supervisor.model.status import WorkerStatus  # noqa: E402
from supervisor.web.metrics import render  # noqa: E402
from support.control_desk import everything, worker  # noqa: E402 - found only now

WORKERS = 500
ROUNDS = 20
FIELDS = ("age_s", "max_age_s", "memory_bytes", "memory_cap_bytes", "vram_bytes", "vram_cap_bytes")


def by_hand(workers: Sequence[WorkerStatus]) -> bytes:
    """Write some fields of each worker, with nothing to escape, and no meaning told."""
    return "".join(
        f'gpu_supervisor_worker_{field}{{worker="{one.name}"}} {getattr(one, field)}\n'
        for field in FIELDS
        for one in workers
    ).encode()


def measure(what: str, once: Callable[[], bytes]) -> float:
    """Print the median of some rounds; return the microseconds a series."""
    took: list[float] = []
    page = b""
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        page = once()
        took.append(time.perf_counter() - begun)
    series = sum(not line.startswith(b"#") for line in page.splitlines())
    middle = statistics.median(took)
    each_us = middle / series * 1e6
    size = f"{series:6} series {len(page) / 1e6:5.2f} MB"
    print(f"{what:12} {size} {middle * 1e3:7.1f} ms {each_us:6.2f} us each")  # noqa: T201
    return each_us


def main() -> None:
    """Measure."""
    status = everything(*(worker(f"w{at}") for at in range(WORKERS)))
    rendered = measure("text 0.0.4", lambda: render(status))
    hand = measure("by hand", lambda: by_hand(status.workers))
    print(f"a series of text 0.0.4 costs {rendered / hand:.1f} times one by hand")  # noqa: T201


if __name__ == "__main__":
    main()
