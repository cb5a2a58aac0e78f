# ruff: noqa: S607, T201 - a benchmark runs what is in PATH, and prints
"""What the web face costs, and whether many who look at it slow the daemon down."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from bench.figures import cpu_ns, median_ms, p99_ms, resident, table, times, until
from bench.peers import Ours, Peer
from bench.respawn import kill_once

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
WORKERS: Final = 10
LISTENERS: Final = 500
REQUESTS_A_SECOND: Final = 1000
NICE: Final = ("nice", "-n", "5")  # as beside `run --web`
MIB: Final = 1 << 20


def bench(make: Callable[..., list[Peer]], worker: Path, seconds: float) -> None:
    """Kill workers for `seconds` without load on the web face, and for as long with it; print both."""
    (peer,) = make(Ours)
    with closing(peer):
        peer.start([str(worker), "idle", str(peer.births.path)], WORKERS)
        with _web(peer.folder) as (pid, port):
            _idle(pid, min(seconds, 20.0))
            print("web: reaction without load", file=sys.stderr)
            without = _spans(peer, seconds)
            print(
                f"web: reaction under {LISTENERS} listeners and {REQUESTS_A_SECOND} requests/s",
                file=sys.stderr,
            )
            before_ns, begun_s = cpu_ns([pid]), time.monotonic()
            words = [str(port), str(seconds + 3), str(LISTENERS), str(REQUESTS_A_SECOND)]
            load = subprocess.Popen(
                ["nice", "-n", "10", sys.executable, str(HERE / "web_load.py"), *words],
                stdout=subprocess.PIPE,
            )
            time.sleep(3.0)
            under = _spans(peer, seconds)
            core = (cpu_ns([pid]) - before_ns) / 1e9 / (time.monotonic() - begun_s)
            rss = resident([pid]).rss / MIB
            told: dict[str, Any] = json.loads(load.communicate(timeout=120)[0])
    rows = [
        _row("without load", without, without),
        _row(f"{LISTENERS} listeners, {REQUESTS_A_SECOND} requests/s", under, without),
    ]
    title = f"kill -9 of one of {WORKERS} workers to its successor, with the web face beside the daemon"
    print(table(title, ("", "rounds", "median ms", "", "p99 ms", ""), rows))
    print(
        f"\nmeanwhile {told['requests_a_second']:.0f} requests/s answered ({told['failed']} failed), median"
        f" {told['median_ms']:.1f} ms, p99 {told['p99_ms']:.1f} ms; {told['listening']} listeners heard"
        f" {told['listened_mb_a_second']:.1f} MB/s; web face {core * 100:.0f} % of a core, {rss:.0f} MiB"
    )


def _row(name: str, spans: list[int], without: list[int]) -> tuple[str, ...]:
    median, slow = median_ms(spans), p99_ms(spans)
    return (
        *(name, str(len(spans)), f"{median:.1f}", times(median, median_ms(without))),
        *(f"{slow:.1f}", times(slow, p99_ms(without))),
    )


def _spans(peer: Peer, seconds: float) -> list[int]:
    until_s = time.monotonic() + seconds
    spans: list[int] = []
    while time.monotonic() < until_s:
        spans.append(kill_once(peer))
        time.sleep(0.2)
    return spans


def _idle(pid: int, seconds: float) -> None:
    before_ns = cpu_ns([pid])
    time.sleep(seconds)
    core = (cpu_ns([pid]) - before_ns) / 1e9 / seconds
    rss = resident([pid]).rss / MIB
    print(f"web face that nobody looks at: {core * 100:.3f} % of a core, {rss:.1f} MiB RSS\n")


@contextmanager
def _web(folder: Path) -> Generator[tuple[int, int]]:
    """Run a web face; yield its pid and its port."""
    output = folder / "web.log"
    words = ("--socket", str(folder / "run" / "control"), "--listen", "127.0.0.1:0")
    with output.open("wb") as log:
        process = subprocess.Popen(
            [*NICE, sys.executable, "-m", "supervisor.web", *words], cwd=ROOT, stdout=log, stderr=log
        )
    try:
        until(lambda: "http://" in output.read_text(), "the web face listens", 20.0)
        found = re.search(r":(\d+)/", output.read_text())
        assert found is not None
        yield process.pid, int(found[1])
    finally:
        process.terminate()
        process.wait(20)
