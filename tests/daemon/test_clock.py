"""The wall clock is stepped by a day under a daemon at work: what it judges by is not that clock."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from support.clock.step import WallClock
from support.daemon import Document, hostile
from support.watching import WatchedDaemon

DAY_S = 86400
STEPS = pytest.mark.parametrize("step_s", [DAY_S, -DAY_S], ids=["forward", "back"])

WORKERS = f"""
  plain: {{command: {hostile("sleeper")}, max_age: 1h}}
  beating: {{command: {hostile("notify", "--interval", "0.2")}, ready: {{notify: true}}, heartbeat: 5s}}
  capped: {{command: {hostile("sleeper")}, memory: {{cap: 1G}}, breach: {{samples: 2, of: 3, warm_up: 1s}}}}
  waiting: {{command: {hostile("exit", "--code", "3")}, restart: {{first: 1h, max: 1h, starts: 9}}}}
  stopped: {{command: {hostile("sleeper")}}}
"""
RUNNING = ("plain", "beating", "capped")


@pytest.fixture
def clock(tmp_path: Path, require: Callable[[object, str], None]) -> WallClock:
    require(shutil.which("cc"), "no cc to build the clock that can be stepped")
    return WallClock(tmp_path)


@pytest.fixture
def daemon(tmp_path: Path, clock: WallClock) -> Iterator[WatchedDaemon]:
    made = WatchedDaemon(tmp_path, clock.environment)
    yield made
    if made.process is not None and made.process.poll() is not None:
        made.start()  # it was killed: the next one ends what it has left
    made.close()


def off_by_s(text: str) -> float:
    """Return how far a time that was shown is from the machine's clock."""
    return datetime.fromisoformat(text).timestamp() - datetime.now(UTC).timestamp()


def until_seen(daemon: WatchedDaemon, step_s: int) -> Document:
    """Wait until the daemon shows the stepped clock, which proves that it was stepped for it."""
    daemon.until(
        lambda: abs(off_by_s(daemon.status()["taken_at"]) - step_s) < 60, "it shows the stepped clock"
    )
    return daemon.status()


def lives(daemon: WatchedDaemon) -> dict[str, tuple[str, str, int]]:
    return {one["name"]: (one["phase"], one["run"], one["restarts"]) for one in daemon.status()["workers"]}


def looks(daemon: WatchedDaemon, seconds: float) -> None:
    """Wait until the daemon has looked for so long, by the clock that is not stepped."""
    until_s = daemon.status()["uptime_s"] + seconds
    daemon.until(lambda: daemon.status()["uptime_s"] >= until_s, "it has looked for a while")


def begin(daemon: WatchedDaemon) -> None:
    daemon.begin(WORKERS)
    for name in RUNNING:
        daemon.until_phase(name, "ready")
    assert daemon.run("stop", "stopped").returncode == 0
    daemon.until_worker("waiting", lambda one: "backoff" in (one["waits_for"] or ""), "it waits")


@STEPS
def test_a_clock_that_steps_by_a_day_restarts_nobody(
    daemon: WatchedDaemon, clock: WallClock, step_s: int
) -> None:
    begin(daemon)
    before = lives(daemon)
    assert {name: phase for name, (phase, *_) in before.items()} == {
        "plain": "ready",
        "beating": "ready",
        "capped": "ready",
        "waiting": "waiting",  # its backoff of an hour is neither over nor a day long
        "stopped": "stopped",
    }
    age_s, began_s = daemon.worker("plain")["age_s"], time.monotonic()
    for step in (step_s, 0, step_s):  # there, back, and there again
        clock.set_off_by(step)
        until_seen(daemon, step)
        looks(daemon, 0.7)
        assert lives(daemon) == before
    plain = daemon.worker("plain")
    assert plain["age_s"] - age_s == pytest.approx(time.monotonic() - began_s, abs=1.5)
    assert plain["restart_in_s"] == pytest.approx(3600 - plain["age_s"], abs=0.1)
    assert plain["memory_bytes"] > 0


@STEPS
def test_what_happens_on_a_stepped_clock_is_in_the_history(
    daemon: WatchedDaemon, clock: WallClock, step_s: int
) -> None:
    begin(daemon)
    os.kill(daemon.pid("plain"), signal.SIGKILL)
    daemon.until_worker(
        "plain", lambda one: one["restarts"] == 1 and one["phase"] == "ready", "it runs again"
    )
    clock.set_off_by(step_s)
    until_seen(daemon, step_s)
    os.kill(daemon.pid("capped"), signal.SIGKILL)
    capped = daemon.until_worker(
        "capped", lambda one: one["restarts"] == 1 and one["phase"] == "ready", "it runs"
    )
    assert off_by_s(capped["last_restart"]["at"]) == pytest.approx(step_s, abs=60)

    def incidents(*words: str) -> dict[str, Document]:
        done = daemon.run("history", "--json", *words)
        assert done.returncode == 0, done.stderr
        return {one["worker"]: one for one in json.loads(done.stdout)["incidents"]}

    daemon.until(lambda: (incidents().get("capped") or {}).get("outcome") is not None, "it is written down")
    found = incidents()
    for name in ("plain", "capped"):
        assert (found[name]["cause"], found[name]["outcome"][:11]) == ("crash", "ready again")
    gap_s = found["capped"]["opened_wall_s"] - found["plain"]["opened_wall_s"]
    assert gap_s == pytest.approx(step_s, abs=60)
    done = daemon.run("history", "show", found["capped"]["id"])
    assert done.returncode == 0, done.stderr
    assert "SIGKILL" in done.stdout
    assert "capped" in incidents("--since", "1h")


@STEPS
def test_an_incident_that_spans_a_step_is_shown(daemon: WatchedDaemon, clock: WallClock, step_s: int) -> None:
    daemon.begin(f"  slow: {{command: {hostile('sleeper')}, ready: {{after: 500ms}}}}\n")
    os.kill(daemon.until_phase("slow", "ready")["pid"], signal.SIGKILL)
    daemon.until_phase("slow", "starting")
    clock.set_off_by(step_s)
    daemon.until_worker("slow", lambda one: one["phase"] == "ready" and one["restarts"] == 1, "it runs again")

    def shown() -> str:
        done = daemon.run("history", "slow")
        assert done.returncode == 0, done.stderr
        return done.stdout

    daemon.until(lambda: "ready again" in shown(), "its end is told")
    done = daemon.run("history", "--json", "slow")
    (incident,) = json.loads(done.stdout)["incidents"]
    assert incident["closed_wall_s"] - incident["opened_wall_s"] == pytest.approx(step_s, abs=60)
    done = daemon.run("history", "show", incident["id"])
    assert done.returncode == 0, done.stderr


def test_an_age_is_reached_when_it_is_reached(daemon: WatchedDaemon, clock: WallClock) -> None:
    daemon.begin(f"  old: {{command: {hostile('sleeper')}, max_age: 2s}}\n")
    began_s = time.monotonic()
    daemon.until_phase("old", "ready")
    for step_s in (DAY_S, -DAY_S):
        clock.set_off_by(step_s)
        until_seen(daemon, step_s)
    assert daemon.worker("old")["restarts"] == 0
    old = daemon.until_worker("old", lambda one: one["restarts"] == 1, "it is restarted by its age")
    assert 1.5 < time.monotonic() - began_s < 10.0
    assert old["last_restart"]["cause"] == "age"
    assert old["last_restart"]["reason"].startswith("age 2")


@STEPS
def test_a_daemon_that_dies_before_a_step_is_succeeded_after_it(
    daemon: WatchedDaemon, clock: WallClock, step_s: int
) -> None:
    begin(daemon)
    before, age_s, began_s = lives(daemon), daemon.worker("plain")["age_s"], time.monotonic()
    daemon.kill()
    clock.set_off_by(step_s)
    daemon.start()
    until_seen(daemon, step_s)
    looks(daemon, 0.7)
    assert lives(daemon) == before
    assert daemon.worker("plain")["age_s"] - age_s == pytest.approx(time.monotonic() - began_s, abs=1.5)
