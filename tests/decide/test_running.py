"""Health probes and heartbeats."""

from typing import Any

from decide.world import GPU_A, World, worker
from supervisor.model.action import Probe, Signal
from supervisor.model.phase import Cause, GpuState, Phase
from supervisor.model.plan import CommandTarget, DrainRule, GpuChoice, HealthRule, HttpTarget

HTTP = HttpTarget("http://127.0.0.1:8081/health")
HEALTH = HealthRule(HTTP, interval_s=10.0, timeout_s=5.0, failures=3)


def healthy(**fields: Any) -> World:  # noqa: ANN401 - any field of a plan
    world = World(worker(health=HEALTH, **fields), gpus=[GPU_A])
    world.answer = True
    world.settle()
    return world


def test_a_healthy_worker_is_asked_at_its_interval() -> None:
    world = healthy()
    world.pass_s(100.5)
    assert len(world.did(Probe)) == 10
    assert {(one.purpose, one.timeout_s) for one in world.did(Probe)} == {("health", 5.0)}


def test_three_bad_answers_in_a_row_restart_a_worker_undrained() -> None:
    world = healthy(drain=DrainRule(CommandTarget(("idle",))))
    world.answer = False
    world.pass_s(29.5)
    assert world.life().unhealthy == 2
    assert [one.fields for one in world.told("health probe failed")] == [
        {"failures": 1, "of": 3},
        {"failures": 2, "of": 3},
    ]
    world.pass_s(1.0)
    assert [one.reason for one in world.did(Signal)] == [
        "3 health probes in a row failed, the last: as asked"
    ]
    assert world.of().last.cause is Cause.UNHEALTHY  # type: ignore[union-attr]


def test_one_good_answer_forgives_the_bad_ones() -> None:
    world = healthy()
    world.answer = False
    world.pass_s(20.5)
    world.answer = True
    world.pass_s(10.0)
    assert world.life().unhealthy == 0


def test_a_probe_whose_answer_is_lost_is_sent_again() -> None:
    world = healthy()
    world.answer = None
    world.tree().seen = False
    world.pass_s(10.5)
    assert len(world.did(Probe)) == 1
    world.pass_s(9.0)
    assert not world.did(Probe)
    world.pass_s(1.0)
    assert len(world.did(Probe)) == 1


def test_a_worker_whose_restart_is_put_off_is_still_asked_for_its_health() -> None:
    world = healthy(gpus=GpuChoice("listed", (0,)), max_age_s=60.0, max_age_jitter=0.0)
    world.gpus[GPU_A].state = GpuState.LOST
    world.pass_s(70.0)
    assert world.told("restart deferred")
    world.pass_s(100.0)
    assert len(world.did(Probe)) == 10
    world.answer = False
    world.pass_s(31.0)
    assert world.of().stop is not None or world.of().last.cause is Cause.UNHEALTHY  # type: ignore[union-attr]


def beating() -> World:
    world = World(worker(heartbeat_s=60.0))
    world.settle()
    return world


def test_a_worker_that_falls_silent_is_restarted() -> None:
    world = beating()
    for _ in range(4):
        world.pass_s(50.0)
        world.settle(world.notifies(watchdog=True))
    world.pass_s(59.9)
    assert world.phase() is Phase.READY
    world.pass_s(0.2)
    assert [one.reason for one in world.did(Signal)] == ["no heartbeat for 1min, wanted every 1min"]
    assert world.of().last.cause is Cause.HEARTBEAT  # type: ignore[union-attr]


def test_other_messages_are_no_heartbeat() -> None:
    world = beating()
    world.pass_s(50.0)
    world.settle(world.notifies(status="busy"))
    world.pass_s(10.2)
    assert world.did(Signal)


def test_a_worker_that_calls_itself_broken_is_restarted_with_its_own_words() -> None:
    world = beating()
    world.settle(world.notifies(trigger=True, status="CUDA error 700"))
    assert [one.reason for one in world.did(Signal)] == [
        "it says itself that it is broken (WATCHDOG=trigger): CUDA error 700"
    ]
