"""What an earlier daemon remembered, made fit for this one, through the JSON in which it was kept."""

import msgspec

from decide.world import GIB, World, worker
from supervisor.decide.resume import after_reboot, resume
from supervisor.model.action import Kill, Launch, Signal
from supervisor.model.memory import Memory, WorkerMemory
from supervisor.model.news import Shutdown
from supervisor.model.phase import Phase
from supervisor.model.plan import BreachRule, CommandTarget, DrainRule, HealthRule, HttpTarget, MemoryCaps

HTTP = HttpTarget("http://127.0.0.1:8081/health")


def test_every_memory_can_be_kept_as_json() -> None:
    world = World(worker("a"), worker("b"))
    world.settle()
    world.settle(world.asks("stop", "b"))
    for one in world.memory.workers.values():
        assert msgspec.json.decode(msgspec.json.encode(one), type=WorkerMemory) == one


def test_a_running_worker_is_taken_over_and_not_started_again() -> None:
    world = World(worker(max_age_s=100.0, max_age_jitter=0.0))
    world.settle()
    run = world.life().run
    world.pass_s(50.0)
    world.crash()
    world.pass_s(49.0)
    assert world.life().run == run
    assert not world.did(Launch)
    world.pass_s(2.0)
    assert world.of().restarts == 1


def test_a_launch_that_was_decided_and_not_made_is_made_again() -> None:
    world = World(worker())
    world.crash_before_acting = True
    world.turn()
    assert world.trees == {}
    world.pass_s(10.0)
    assert world.phase() is Phase.READY
    assert world.of().lives == 2


def test_a_stop_under_way_goes_on() -> None:
    world = World(worker(stop_timeout_s=30.0))
    world.settle()
    world.tree().obeys = False
    world.settle(world.asks("restart"))
    world.pass_s(10.0)
    world.crash()
    world.pass_s(19.9)
    assert not world.did(Kill)
    world.pass_s(0.2)
    assert world.did(Kill)


def test_a_stop_under_way_is_no_busy_loop_after_a_probe_was_lost() -> None:
    world = World(worker(stop_timeout_s=30.0, drain=DrainRule(CommandTarget(("idle",)), timeout_s=5.0)))
    world.settle()
    world.tree().obeys = False
    world.settle(world.asks("restart"))
    world.pass_s(6.0)
    assert world.phase() is Phase.STOPPING
    world.crash()
    world.pass_s(5.0)
    assert world.phase() is Phase.STOPPING


def test_a_probe_that_went_with_the_daemon_is_asked_again() -> None:
    world = World(worker(health=HealthRule(HTTP, interval_s=10.0)))
    world.settle()
    world.pass_s(10.5)
    assert len(world.probes) == 1
    world.crash()
    world.turn()
    assert len(world.probes) == 1


def test_a_breach_has_to_be_seen_by_one_daemon() -> None:
    world = World(worker(memory=MemoryCaps(cap_bytes=GIB), breach=BreachRule(3, 5, 0.0)))
    world.settle()
    world.pass_s(4.0)
    world.tree().memory_bytes = 2 * GIB
    world.pass_s(2.1)
    world.crash()
    assert world.life().memory.over == ()
    world.turn()
    assert not world.did(Signal)


def test_a_worker_that_was_silent_while_nobody_listened_is_given_its_time() -> None:
    world = World(worker(heartbeat_s=60.0))
    world.settle()
    world.now_s += 300.0
    world.crash()
    world.pass_s(59.0)
    assert world.phase() is Phase.READY
    assert not world.did(Signal)


def test_whoever_was_stopped_because_the_daemon_ended_is_wanted_by_the_next() -> None:
    world = World(worker("a"), worker("b"))
    world.settle()
    world.settle(world.asks("stop", "b"))
    world.settle(Shutdown())
    assert world.done
    world.crash()
    world.settle()
    assert (world.phase("a"), world.phase("b")) == (Phase.READY, Phase.STOPPED)


def test_a_daemon_that_leaves_its_workers_ends_at_once_and_touches_nobody() -> None:
    world = World(worker("a"), worker("b"))
    world.settle()
    world.settle(world.asks("restart", "b"))
    acted = len([one for one in world.log if isinstance(one, Signal | Kill)])
    world.settle(Shutdown(leave=True))
    assert world.done
    assert len([one for one in world.log if isinstance(one, Signal | Kill)]) == acted
    world.crash()
    world.settle()
    assert world.phase("a") is Phase.READY
    assert world.of("a").lives == 1


def test_a_reboot_leaves_who_is_held_and_who_is_not_wanted_and_no_lives() -> None:
    world = World(worker("a"), worker("b"), worker("c"))
    world.settle()
    world.settle(world.asks("stop", "b"))
    world.exits("c")
    held = msgspec.structs.replace(world.of("c"), phase=Phase.HELD, held="x", life=None)
    booted = after_reboot(Memory("i", {**world.memory.workers, "c": held}))
    assert {name: (one.phase, one.wanted, one.life) for name, one in booted.workers.items()} == {
        "a": (Phase.WAITING, True, None),
        "b": (Phase.STOPPED, False, None),
        "c": (Phase.HELD, True, None),
    }
    assert booted.workers["a"].lives == 1
    assert resume(booted, 5.0).workers["c"].held == "x"
