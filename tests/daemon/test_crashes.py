"""The daemon is killed at every step of a worker's life; the next one finds everything, and nothing twice."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.daemon import ROOT, Daemon, alive, hostile

CRASHING = Path(__file__).parents[1] / "support" / "crashing.py"
CONFIG = """
poll_interval: 100ms
launcher: direct
host: {warn_available: 64M, critical_available: 32M}
workers:
  one:
    command: COMMAND
    ready: {after: 50ms}
    max_age: 400ms
    max_age_jitter: 0%
    stop_timeout: 300ms
    start_timeout: 5s
    restart: {first: 50ms, max: 100ms, starts: 1000, within: 1h}
"""
# Steps that are tried: they reach over a launch, the readiness, the age restart and the successor.
LAST_STEP = 45


def run_until_it_crashes(daemon: Daemon, step: int) -> bool:
    """Run a daemon that is killed at this step; say whether it got so far."""
    words = [str(CRASHING), str(step), str(daemon.folder / "run"), "run", "--config", str(daemon.config)]
    with daemon.output.open("ab") as log:
        environment = {**daemon.environment, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        return process.wait(4.0) == -signal.SIGKILL
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False


def running(daemon: Daemon) -> list[int]:
    return [pid for pid in daemon.noted() if alive(pid)]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["sleeper", "ignore-term", "grandchild"])
def test_a_daemon_killed_at_any_step_leaves_nothing_orphaned_and_nothing_doubled(
    tmp_path: Path, mode: str
) -> None:
    crashed = 0
    steps = range(1, LAST_STEP, 1 if mode == "sleeper" else 4)
    for step in steps:
        folder = tmp_path / str(step)
        folder.mkdir()
        daemon = Daemon(folder)
        daemon.configure(CONFIG.replace("COMMAND", hostile("--log", str(daemon.notes), mode)))
        crashed += run_until_it_crashes(daemon, step)
        try:
            daemon.start()
            see_the_next_life(daemon, step)
            watch_for_a_double(daemon, mode)
            assert daemon.stop() == 0
        finally:
            daemon.close()
        assert running(daemon) == [], f"step {step}"
    assert crashed > len(steps) // 2  # all of them, where the machine is not too slow to get that far


def see_the_next_life(daemon: Daemon, step: int) -> None:
    """It goes on as if nothing had happened: at the latest the age restart comes round again."""
    before = len(daemon.noted())
    daemon.until(lambda: len(daemon.noted()) > before, f"step {step}: the next life begins")


def watch_for_a_double(daemon: Daemon, mode: str) -> None:
    most = 3 if mode == "grandchild" else 1
    until_s = time.monotonic() + 0.3
    while time.monotonic() < until_s:
        assert len(running(daemon)) <= most, daemon.log()
        time.sleep(0.01)
