"""Never two replicas of one worker are down by our hand."""

from typing import Any

from decide.world import GIB, World, replicas, worker
from supervisor.model.action import Signal
from supervisor.model.phase import Cause, Phase
from supervisor.model.plan import BreachRule, MemoryCaps, NotifyTarget, RestartRule
from supervisor.model.reading import Missing


def pair(**fields: Any) -> World:  # noqa: ANN401 - any field of a plan
    world = World(*replicas("chat", 2, ready=NotifyTarget(), **fields))
    world.settle()
    world.settle(world.notifies("chat-1", ready=True), world.notifies("chat-2", ready=True))
    assert [one.phase for one in world.memory.workers.values()] == [Phase.READY, Phase.READY]
    return world


def test_replicas_that_age_together_are_restarted_one_after_the_other() -> None:
    world = pair(max_age_s=60.0, max_age_jitter=0.0)
    world.pass_s(70.0)
    assert [one.worker for one in world.did(Signal)] == ["chat-1"]
    assert world.of("chat-2").waits_for == "chat-1 is down"
    world.pass_s(2.0, world.notifies("chat-1", ready=True))
    assert [one.worker for one in world.did(Signal)] == ["chat-2"]


def test_an_operators_restart_rolls_over_the_replicas() -> None:
    world = pair()
    world.settle(world.asks("restart"))
    assert [one.worker for one in world.did(Signal)] == ["chat-1"]
    world.pass_s(30.0)
    assert not world.did(Signal)
    world.pass_s(2.0, world.notifies("chat-1", ready=True))
    assert [one.worker for one in world.did(Signal)] == ["chat-2"]


def test_a_reload_rolls_over_the_replicas() -> None:
    world = pair()
    world.reload(*replicas("chat", 2, ready=NotifyTarget(), priority=3))
    world.settle()
    assert [one.worker for one in world.did(Signal)] == ["chat-1"]
    world.pass_s(2.0, world.notifies("chat-1", ready=True))
    assert [one.worker for one in world.did(Signal)] == ["chat-2"]


def test_a_configuration_that_crashes_does_not_take_the_next_replica_down() -> None:
    world = pair(restart=RestartRule(starts=99))
    world.reload(*replicas("chat", 2, ready=NotifyTarget(), restart=RestartRule(starts=98)))
    world.settle()
    for _ in range(3):
        world.exits("chat-1")
        world.pass_s(20.0)
    assert world.of("chat-1").last.cause is Cause.EXIT  # type: ignore[union-attr]
    assert world.phase("chat-2") is Phase.READY


def test_a_configuration_that_ends_held_does_not_take_the_next_replica_down() -> None:
    world = pair(max_age_s=600.0, max_age_jitter=0.0)
    world.reload(*replicas("chat", 2, ready=NotifyTarget(), restart=RestartRule(starts=1)))
    world.settle()
    world.exits("chat-1")
    world.pass_s(30.0)
    assert world.phase("chat-1") is Phase.HELD
    world.pass_s(600.0)
    assert world.phase("chat-2") is Phase.READY
    assert world.of("chat-2").waits_for == "chat-1 was restarted before it, and is held"
    world.settle(world.asks("reset", "chat-1"))
    world.pass_s(2.0, world.notifies("chat-1", ready=True))
    assert [one.worker for one in world.did(Signal)] == ["chat-2"]


def test_a_cap_waits_for_no_sibling_that_is_held() -> None:
    world = pair(
        memory=MemoryCaps(cap_bytes=GIB), breach=BreachRule(1, 1, 5.0), restart=RestartRule(starts=1)
    )
    world.pass_s(6.0)
    world.settle(world.asks("restart", "chat-1"))
    world.exits("chat-1")
    world.pass_s(3.0)
    assert world.phase("chat-1") is Phase.HELD
    world.tree("chat-2").memory_bytes = 2 * GIB
    world.pass_s(2.1)
    assert [one.worker for one in world.did(Signal)] == ["chat-2"]


def test_a_cap_waits_for_a_sibling_that_is_down() -> None:
    world = pair(memory=MemoryCaps(cap_bytes=GIB), breach=BreachRule(1, 1, 5.0))
    world.pass_s(6.0)
    world.settle(world.asks("restart", "chat-1"))
    world.tree("chat-2").memory_bytes = 2 * GIB
    world.pass_s(10.0)
    assert not world.did(Signal)
    world.pass_s(2.1, world.notifies("chat-1", ready=True))
    assert [one.worker for one in world.did(Signal)] == ["chat-2"]


def test_a_breach_that_had_to_wait_is_not_acted_on_once_nobody_can_read_the_worker() -> None:
    world = pair(memory=MemoryCaps(cap_bytes=GIB), breach=BreachRule(1, 1, 5.0))
    world.pass_s(6.0)
    world.settle(world.asks("restart", "chat-1"))
    world.tree("chat-2").memory_bytes = 2 * GIB
    world.pass_s(10.0)
    world.tree("chat-2").memory_bytes = Missing("EACCES")
    world.pass_s(2.1)
    world.pass_s(10.0, world.notifies("chat-1", ready=True))
    assert not world.did(Signal)


def test_a_sibling_that_crashed_is_not_down_by_our_hand() -> None:
    world = pair(max_age_s=60.0, max_age_jitter=0.0)
    world.pass_s(50.0)
    world.exits("chat-1")
    world.pass_s(15.0)
    assert world.phase("chat-1") is Phase.STARTING
    assert [one.worker for one in world.did(Signal)] == ["chat-2"]


def test_a_sibling_that_an_operator_stopped_is_not_waited_for() -> None:
    world = pair(max_age_s=60.0, max_age_jitter=0.0)
    world.settle(world.asks("stop", "chat-1"))
    world.pass_s(61.0)
    assert [one.worker for one in world.did(Signal)] == ["chat-2"]


def test_the_emergency_of_the_host_does_not_ask_for_siblings() -> None:
    world = pair()
    world.settle(world.asks("restart", "chat-1"))
    world.available = GIB + 1
    world.pass_s(4.0)
    assert {one.worker for one in world.did(Signal)} == {"chat-1", "chat-2"}


def test_workers_of_other_names_do_not_wait_for_each_other() -> None:
    world = World(
        worker("a", max_age_s=60.0, max_age_jitter=0.0), worker("b", max_age_s=60.0, max_age_jitter=0.0)
    )
    world.settle()
    world.pass_s(60.1)
    assert [one.worker for one in world.did(Signal)] == ["a", "b"]
