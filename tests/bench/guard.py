# ruff: noqa: T201 - a benchmark prints
"""Print what a runner of batches costs for each batch, beside its peers, all in one run.

python tests/bench/guard.py [--install] [--alone] [--rounds N]       (scripts/bench guard)

Each runs a function that does nothing over the same batches: a bare loop, BatchRunner, accelerate's
find_executable_batch_size and toma. The last two need PyTorch; --install puts them, beside the PyTorch of
the tests, into the cache directory of the tests. After an out-of-memory both run what they decorate again
from its start, so they decorate the call of one batch here: only so is the work before it not lost.
"""

import argparse
import gc
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]

from supervisor.guard import BatchRunner, MemoryManager  # noqa: E402 - the path comes first
from support.cache import cache_dir  # noqa: E402

PEERS: Final = ("accelerate==1.15.0", "toma==1.1.0")
SIZE: Final = 12
BATCHES: Final = 2000
TORCH: Final = "torch-2.13.0"
Loop = Callable[[list[int]], object]


def work(items: list[int]) -> list[int]:
    """Do as little as a function of batches can."""
    return items


def batches(items: list[int]) -> Iterator[list[int]]:
    for at in range(0, len(items), SIZE):
        yield items[at : at + SIZE]


def bare(items: list[int]) -> int:
    return sum(len(work(batch)) for batch in batches(items))


def ours(**options: Any) -> Loop:  # noqa: ANN401 - whatever a runner takes
    runner = BatchRunner(work, SIZE, memory=MemoryManager("cpu"), threshold=1.0, **options)
    return lambda items: sum(1 for _ in runner.run(items))


def accelerates() -> Loop:
    find_executable_batch_size: Any = import_module("accelerate.utils").find_executable_batch_size

    def sized(batch_size: int, batch: list[int]) -> list[int]:
        return work(batch[:batch_size])

    call: Callable[[list[int]], list[int]] = find_executable_batch_size(starting_batch_size=SIZE)(sized)
    return lambda items: sum(len(call(batch)) for batch in batches(items))


def tomas() -> Loop:
    toma: Any = import_module("toma").toma

    def sized(batchsize: int, batch: list[int]) -> list[int]:
        return work(batch[:batchsize])

    call: Callable[[list[int]], list[int]] = toma.batch(initial_batchsize=SIZE)(sized)
    return lambda items: sum(len(call(batch)) for batch in batches(items))


CONTENDERS: Final[dict[str, Callable[[], Loop]]] = {
    "BatchRunner": ours,
    "BatchRunner, timeout_s": lambda: ours(timeout_s=60.0),
    "a bare loop": lambda: bare,
    "accelerate 1.15.0, find_executable_batch_size": accelerates,
    "toma 1.1.0, toma.batch": tomas,
}


def seconds(loop: Loop, items: list[int]) -> float:
    began_s = time.perf_counter()
    done = loop(items)
    took_s = time.perf_counter() - began_s
    if done != len(items):
        raise ArithmeticError(f"{done} results for {len(items)} items")
    return took_s


def bench(rounds: int) -> None:
    """Take turns, so that a busy moment of the machine meets all alike."""
    loops: dict[str, Loop] = {}
    for name, make in CONTENDERS.items():
        try:
            loops[name] = make()
        except ImportError as error:
            print(f"{name} is left out: {error} (--install installs it)", file=sys.stderr)
    items = list(range(SIZE * BATCHES))
    taken: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            gc.collect()
            # These collect garbage and empty caches at each call: 2000 would take many minutes.
            few = items[: SIZE * 8] if name.startswith(("accelerate", "toma")) else items
            taken[name].append(seconds(loop, few) / (len(few) / SIZE))
    first = median(taken["BatchRunner"])
    print(f"\n### for each batch of {SIZE} items, {rounds} rounds\n")
    print("| | median us | best us | |\n|---|---:|---:|---:|")
    for name, each in taken.items():
        ratio = f"{median(each) / first:.2f} x"
        print(f"| {name} | {median(each) * 1e6:.1f} | {min(each) * 1e6:.1f} | {ratio} |")


def with_peers() -> Path:
    """Make an environment of the peers that sees the tests' PyTorch; return its Python."""
    home, torch = cache_dir() / "guard-peers", cache_dir() / TORCH
    python = home / "bin/python"
    if not (home / "made").exists():
        if not (torch / "made").exists():
            raise SystemExit(
                f"cannot install the peers: there is no {torch} (scripts/test tests/guard makes it)"
            )
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        [packages] = home.glob("lib/python*/site-packages")
        (packages / "torch.pth").write_text(f"{next(torch.glob('lib/python*/site-packages'))}\n", "utf-8")
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
        subprocess.run([*pip, *PEERS], check=True)
        (home / "made").touch()
    return python


def main() -> None:
    """Run it, in the peers' environment where it is wanted or there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--install", action="store_true", help="install the peers into the cache directory")
    parser.add_argument("--alone", action="store_true", help="without peers")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    there = cache_dir() / "guard-peers" / "made"
    wanted = not options.alone and (options.install or there.exists())
    if wanted and "GUARD_BENCH" not in os.environ:
        python = str(with_peers())
        os.environ["GUARD_BENCH"] = "1"
        os.execv(python, [python, __file__, "--rounds", str(options.rounds)])  # noqa: S606 - ourselves
    cores = len(os.sched_getaffinity(0))
    print(f"{cores} cores, Linux {platform.release()}, Python {platform.python_version()}")
    bench(options.rounds)


if __name__ == "__main__":
    main()
