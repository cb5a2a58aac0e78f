# ruff: noqa: S607, T201 - a benchmark runs what is in PATH, and prints
"""Print what gpu-supervisor costs and how fast it is, beside its peers, all in one run.

python tests/bench/run.py [--quick] [--install] [--alone] [--seconds S] [idle] [respawn] [cap] [floor]
    [guard] [web]

Figures drift between machines and with their load: what counts is the ratios of one run. Peers that are not
installed are left out; --install puts supervisord, circus and PM2 into the cache directory of the tests.
"""

import argparse
import itertools
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]

from bench import growth, idle, respawn, web  # noqa: E402 - the path comes first
from bench.peers import OTHERS, Peer, Pm2, install  # noqa: E402
from support.cache import cache_dir  # noqa: E402

NAMES: Final = ("idle", "respawn", "cap", "floor", "guard", "web")


def main() -> None:
    """Run the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="10 workers, 10 s, few rounds: does it run at all?"
    )
    parser.add_argument("--install", action="store_true", help="install peers into the cache directory")
    parser.add_argument("--alone", action="store_true", help="without peers")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long idle workers are watched")
    parser.add_argument("--workers", type=int, nargs="+", default=[10, 500, 1000], help="how many idle ones")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (default: all)")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark is named {', '.join(sorted(unknown))}")
    tools = cache_dir() / "peers"
    if options.install:
        install(tools)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Short, as sockets lie below it; and in memory, as /run is.
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="gs-", dir=place) as name:
        folder = Path(name)
        worker = folder / "worker"
        subprocess.run(
            ["cc", "-O1", "-Wall", "-Wextra", "-o", str(worker), str(HERE / "worker.c")], check=True
        )
        print(machine())
        run(options, _maker(folder, tools, alone=options.alone), worker)


def run(options: argparse.Namespace, make: Callable[..., list[Peer]], worker: Path) -> None:
    """Run the benchmarks, the cheapest first."""
    quick: bool = options.quick
    chosen: set[str] = set(options.names or NAMES)
    if "respawn" in chosen:
        respawn.bench(make, worker, 5 if quick else respawn.ROUNDS, (1,) if quick else (10,))
    if "cap" in chosen:
        growth.bench_cap(make, worker, 2 if quick else 6)
    if "floor" in chosen:
        growth.bench_floor(make, worker, 2 if quick else 6)
    if "web" in chosen:
        web.bench(make, worker, 5.0 if quick else options.seconds)
    if "guard" in chosen:
        bench_guard(options)
    if "idle" in chosen:
        idle.bench(make, worker, 10.0 if quick else options.seconds, [10] if quick else options.workers)


def bench_guard(options: argparse.Namespace) -> None:
    """Run the benchmark of batches, which has an environment of its own."""
    sys.stdout.flush()
    flags = [f"--{name}" for name in ("install", "alone") if getattr(options, name)]
    rounds = ["--rounds", "2" if options.quick else "9"]
    subprocess.run([sys.executable, str(HERE / "guard.py"), *flags, *rounds], check=True)


def _maker(folder: Path, tools: Path, *, alone: bool) -> Callable[..., list[Peer]]:
    """Return what makes one peer afresh, or all that are installed where none is named."""
    numbers = itertools.count()

    def make(kind: Callable[[Path, Path], Peer] | None = None) -> list[Peer]:
        kinds = OTHERS if kind is None else (kind,)
        if alone:
            kinds = [one for one in kinds if one not in {*OTHERS, Pm2}]
        peers = [one(folder / str(next(numbers)), tools) for one in kinds]
        return [peer for peer in peers if peer.available()]

    return make


def machine() -> str:
    """Describe the machine in a line."""
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, Linux {platform.release()}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
