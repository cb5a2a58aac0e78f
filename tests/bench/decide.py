"""Print how long `decide` takes for 1,000 workers: at a look, in an idle turn, and for one piece of news."""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:1] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from decide.world import GIB, World, worker  # noqa: E402 - found only now
from supervisor.decide.turn import decide  # noqa: E402
from supervisor.model.news import Notified  # noqa: E402
from supervisor.model.plan import HealthRule, HttpTarget, MemoryCaps  # noqa: E402

WORKERS = 1000
ROUNDS = 50


def measure(what: str, once: Callable[[], object]) -> None:
    """Print the median and the worst of some rounds, in milliseconds."""
    took: list[float] = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        once()
        took.append((time.perf_counter() - begun) * 1000)
    print(f"{what:34} median {statistics.median(took):7.2f} ms   worst {max(took):7.2f} ms")  # noqa: T201


def main() -> None:
    """Measure."""
    health = HealthRule(HttpTarget("http://127.0.0.1:8081/health"))
    workers = [
        worker(f"w{at}", memory=MemoryCaps(cap_bytes=GIB), max_age_s=3600.0, health=health)
        for at in range(WORKERS)
    ]
    world = World(*workers)
    world.answer = True
    world.pass_s(1.0)
    while any(one.life is None for one in world.memory.workers.values()):
        world.turn()
    world.settle()
    world.pass_s(4.0)
    plan, memory, idle = world.plan, world.memory, world.snapshot(look=False)
    world.now_s += 2.0
    look = world.snapshot()
    news = [Notified("w7", world.life("w7").run, watchdog=True)]
    measure(f"a look at {WORKERS} workers", lambda: decide(plan, memory, look, ()))
    measure(f"an idle turn of {WORKERS} workers", lambda: decide(plan, memory, idle, ()))
    measure(f"one piece of news of {WORKERS} workers", lambda: decide(plan, memory, idle, news))


if __name__ == "__main__":
    main()
