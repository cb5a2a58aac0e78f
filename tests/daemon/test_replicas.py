"""Workers of one name, and workers that wait for others: the order in which a real daemon moves them."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import hostile
from support.watching import WatchedDaemon, overlapping

PAIR = ("chat-1", "chat-2")
SLEEPER = hostile("sleeper")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[WatchedDaemon]:
    made = WatchedDaemon(tmp_path)
    yield made
    made.close()


def begin(daemon: WatchedDaemon, more: str = "", command: str = SLEEPER) -> None:
    daemon.begin(f"  chat: {{command: {command}, replicas: 2, ready: {{after: 300ms}}{more}}}\n")
    for name in PAIR:
        daemon.until_phase(name, "ready")


def up(daemon: WatchedDaemon) -> int:
    return sum(one["phase"] in {"ready", "draining"} for one in daemon.status()["workers"])


def test_a_restart_of_all_replicas_never_has_both_down(daemon: WatchedDaemon) -> None:
    begin(daemon)
    before = [daemon.pid(name) for name in PAIR]
    assert daemon.run("restart", "chat", "--no-wait").returncode == 0
    lowest = 2

    def done() -> bool:
        nonlocal lowest
        workers = daemon.status()["workers"]
        lowest = min(lowest, sum(one["phase"] == "ready" for one in workers))
        return all(one["restarts"] == 1 and one["phase"] == "ready" for one in workers)

    daemon.until(done, "both were restarted")
    assert lowest == 1
    downs = daemon.downs(PAIR)
    assert sorted(name for name, *_ in downs) == ["chat-1", "chat-2"]
    assert overlapping(downs) == []
    assert not {daemon.pid(name) for name in PAIR} & set(before)


def test_replicas_that_age_together_are_restarted_one_after_the_other(daemon: WatchedDaemon) -> None:
    begin(daemon, ", max_age: 1s")
    daemon.until(
        lambda: all(one["restarts"] >= 2 for one in daemon.status()["workers"]), "both were, twice", 30.0
    )
    downs = daemon.downs(PAIR)
    assert len(downs) >= 4
    assert overlapping(downs) == []
    causes = {one["cause"] for one in daemon.told("worker stopping")}
    assert causes == {"age"}


def test_replicas_over_their_cap_at_the_same_time_are_restarted_one_after_the_other(
    daemon: WatchedDaemon,
) -> None:
    leak = hostile("leak", "--rate", "100", "--limit", "160")
    begin(daemon, ", memory: {cap: 96M}", leak)
    daemon.until(lambda: all(one["restarts"] >= 1 for one in daemon.status()["workers"]), "both were", 30.0)
    downs = daemon.downs(PAIR)
    assert len(downs) >= 2
    assert overlapping(downs) == []


def test_a_replica_that_was_killed_does_not_keep_the_other_from_a_restart(daemon: WatchedDaemon) -> None:
    begin(daemon, ", restart: {first: 1min, max: 5min, starts: 9, within: 1h}")
    os.kill(daemon.pid("chat-1"), signal.SIGKILL)
    crashed = daemon.until_phase("chat-1", "waiting")
    assert crashed["last_restart"]["cause"] == "crash"
    assert "backoff" in crashed["waits_for"]
    done = daemon.run("restart", "chat-2")
    assert done.returncode == 0, done.stderr
    assert daemon.worker("chat-2")["restarts"] == 1
    assert daemon.worker("chat-2")["phase"] == "ready"
    assert daemon.worker("chat-1")["phase"] == "waiting"  # its backoff is its own


def test_a_replica_that_dies_is_succeeded_while_the_other_is_untouched(daemon: WatchedDaemon) -> None:
    begin(daemon)
    other = daemon.pid("chat-2")
    os.kill(daemon.pid("chat-1"), signal.SIGKILL)
    daemon.until_worker(
        "chat-1", lambda one: one["restarts"] == 1 and one["phase"] == "ready", "it runs again"
    )
    assert (daemon.pid("chat-2"), daemon.worker("chat-2")["restarts"]) == (other, 0)


def test_a_configuration_that_breaks_one_replica_leaves_the_other_in_service(daemon: WatchedDaemon) -> None:
    begin(daemon)
    before = daemon.pid("chat-2")
    quick = "[sh, -c, 'exit 3']"  # Python may start later than it counts as ready, on a busy machine
    broken = daemon.config.read_text().replace(SLEEPER, quick)
    daemon.configure(broken.replace("starts: 100", "starts: 3"))
    assert daemon.run("reload").returncode == 0
    first = daemon.until_phase("chat-1", "held")
    assert "status 3" in first["held"]
    other = daemon.until_worker("chat-2", lambda one: "held" in (one["waits_for"] or ""), "it waits")
    assert other["waits_for"] == "chat-1 was restarted before it, and is held"
    assert (other["pid"], other["phase"], other["restarts"]) == (before, "ready", 0)
    assert daemon.run("restart", "chat-2", "--now", "--no-wait").returncode == 0  # an operator may insist
    daemon.until_worker("chat-2", lambda one: one["pid"] != before, "it is restarted")


def test_a_worker_starts_once_all_that_it_needs_is_ready(daemon: WatchedDaemon) -> None:
    daemon.begin(
        f"  a-front: {{command: {SLEEPER}, after: [chat, store]}}\n"
        f"  chat: {{command: {SLEEPER}, replicas: 2, ready: {{after: 600ms}}, after: [store]}}\n"
        f"  store: {{command: {SLEEPER}, ready: {{after: 300ms}}}}\n"
    )
    daemon.until_worker(
        "a-front", lambda one: (one["waits_for"] or "").endswith(" to be ready"), "it says so"
    )
    daemon.until_phase("a-front", "ready")
    moves = [
        (one["worker"], one["event"].removeprefix("worker "))
        for one in daemon.events()
        if one["event"] in {"worker launched", "worker ready"}
    ]
    assert moves[:2] == [("store", "launched"), ("store", "ready")]
    assert set(moves[2:4]) == {("chat-1", "launched"), ("chat-2", "launched")}
    assert set(moves[4:6]) == {("chat-1", "ready"), ("chat-2", "ready")}
    assert moves[6:] == [("a-front", "launched"), ("a-front", "ready")]


def test_a_worker_stays_up_when_what_it_needed_goes_down(daemon: WatchedDaemon) -> None:
    daemon.begin(
        f"  front: {{command: {SLEEPER}, after: [store]}}\n"
        f"  store: {{command: {SLEEPER}, ready: {{after: 100ms}}}}\n"
    )
    front = daemon.until_phase("front", "ready")
    assert daemon.run("stop", "store").returncode == 0
    assert daemon.pid("front") == front["pid"]
    assert daemon.run("restart", "front", "--no-wait").returncode == 0
    daemon.until_worker("front", lambda one: one["waits_for"] == "store to be ready", "its next start waits")
    assert daemon.run("start", "store").returncode == 0
    daemon.until_phase("front", "ready")
