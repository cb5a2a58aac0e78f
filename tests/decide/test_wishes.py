"""What operators ask, what a reload changes, and how the daemon ends."""

from decide.world import GIB, World, phases, replicas, worker
from supervisor.model.action import Forget, Kill, Launch, Notice, Signal
from supervisor.model.news import Shutdown
from supervisor.model.phase import Cause, Phase
from supervisor.model.plan import CommandTarget, DrainRule, NotifyTarget, RestartRule
from supervisor.model.reading import Missing

DRAIN = DrainRule(CommandTarget(("idle",)), timeout_s=600.0)


def running() -> World:
    world = World(worker())
    world.settle()
    return world


def test_a_stopped_worker_rests_until_it_is_started() -> None:
    world = running()
    world.settle(world.asks("stop", reason="maintenance"))
    assert world.phase() is Phase.STOPPED
    [ended] = world.told("worker stopped")
    assert (ended.outcome, ended.reason) == ("stopped", "maintenance")
    world.pass_s(600.0)
    assert not world.did(Launch)
    world.settle(world.asks("start"))
    assert world.phase() is Phase.READY


def test_a_restart_without_words_names_who_asked() -> None:
    world = running()
    world.settle(world.asks("restart"))
    assert world.of().last.reason == "asked for by uid 1000"  # type: ignore[union-attr]
    assert world.of().last.cause is Cause.OPERATOR  # type: ignore[union-attr]
    assert world.of().failures_s == ()


def test_a_base_name_means_all_replicas() -> None:
    world = World(*replicas("chat", 3), worker("other"))
    world.settle()
    world.settle(world.asks("stop", "chat"))
    assert phases(world) == {"chat-1": "stopped", "chat-2": "stopped", "chat-3": "stopped", "other": "ready"}
    world.settle(world.asks("start", "chat-2"))
    assert phases(world)["chat-2"] == "ready"


def test_a_stop_while_it_waits_ends_its_incident() -> None:
    world = running()
    run = world.life().run
    world.exits()
    world.settle()
    assert world.phase() is Phase.WAITING
    world.settle(world.asks("stop"))
    assert world.phase() is Phase.STOPPED
    assert [(one.incident, one.outcome) for one in world.told("worker stopped")] == [(run, "stopped")]


def test_a_restart_does_not_wait_for_the_backoff() -> None:
    world = World(worker(restart=RestartRule(first_s=300.0)))
    world.settle()
    world.exits()
    world.settle()
    world.settle(world.asks("restart"))
    assert world.phase() is Phase.READY


def held() -> World:
    world = World(worker())
    world.launch_fails, world.hopeless = "no such file", True
    world.settle()
    world.launch_fails = None
    assert world.phase() is Phase.HELD
    return world


def test_a_held_worker_is_released_by_a_reset_and_not_by_a_start() -> None:
    world = held()
    world.settle(world.asks("start"))
    assert world.phase() is Phase.HELD
    world.settle(world.asks("reset"))
    assert world.phase() is Phase.READY
    assert world.of().held is None


def test_a_held_worker_can_be_stopped_and_restarted() -> None:
    world = held()
    world.settle(world.asks("stop"))
    assert world.phase() is Phase.STOPPED
    assert world.of().held is None
    world = held()
    world.settle(world.asks("restart"))
    assert world.phase() is Phase.READY


def test_a_reset_forgets_failures_and_leaves_a_running_worker_alone() -> None:
    world = running()
    world.exits()
    world.pass_s(5.0)
    run = world.life().run
    world.settle(world.asks("reset"))
    assert world.of().failures_s == ()
    assert world.of().backoff == 0
    assert world.life().run == run


def test_a_worker_whose_part_did_not_change_is_not_touched_by_a_reload() -> None:
    world = World(worker("a"), worker("b"))
    world.settle()
    world.reload(worker("a"), worker("b", priority=2), worker("c"))
    world.settle()
    assert [one.worker for one in world.did(Signal)] == ["b"]
    assert phases(world) == {"a": "ready", "b": "ready", "c": "ready"}
    assert world.of("b").last.cause is Cause.RELOAD  # type: ignore[union-attr]
    assert world.life("b").plan.priority == 2


def test_a_change_that_is_taken_back_in_time_restarts_nobody() -> None:
    world = World(worker("a"))
    world.settle()
    world.available = Missing("EIO")  # nothing is restarted meanwhile
    world.reload(worker("a", drain=DRAIN))
    world.settle()
    assert world.of("a").pending is not None
    world.reload(worker("a"))
    world.available = 40 * GIB
    world.pass_s(10.0)
    assert world.of("a").restarts == 0
    assert world.of("a").pending is None


def test_a_removed_worker_is_drained_stopped_and_forgotten() -> None:
    world = World(worker("a", drain=DRAIN), worker("b"))
    world.settle()
    world.reload(worker("b"))
    world.settle()
    assert world.phase("a") is Phase.DRAINING
    world.answers(good=True)
    world.settle()
    world.turn()
    assert list(world.memory.workers) == ["b"]


def test_a_worker_that_comes_back_has_a_run_of_a_new_name() -> None:
    world = World(worker("a"))
    world.settle()
    first = world.life("a").run
    world.reload()
    world.settle()
    world.turn()
    assert world.memory.workers == {}
    world.now_s += 0.01
    world.reload(worker("a"))
    world.settle()
    assert world.life("a").run != first


def test_the_daemon_ends_all_at_once_and_undrained() -> None:
    world = World(
        worker("a", drain=DRAIN), worker("b", ready=NotifyTarget()), worker("c", stop_timeout_s=5.0)
    )
    world.settle()
    world.tree("c").obeys = False
    world.turn(Shutdown())
    assert {one.worker for one in world.did(Signal)} == {"a", "b", "c"}
    world.pass_s(4.0)
    assert not world.done
    world.pass_s(2.0)
    assert world.done
    assert [one.worker for one in world.log if isinstance(one, Kill)] == ["c"]
    assert len([one for one in world.log if isinstance(one, Forget)]) == 3


def test_a_second_word_hurries() -> None:
    world = World(worker("a", stop_timeout_s=600.0), worker("b", stop_timeout_s=600.0))
    world.settle()
    world.tree("a").obeys = world.tree("b").obeys = False
    world.settle(Shutdown())
    world.turn(Shutdown(hurry=True))
    assert {one.worker for one in world.did(Kill)} == {"a", "b"}
    world.pass_s(1.0)
    assert world.done


def test_nothing_is_started_while_the_daemon_ends() -> None:
    world = World(worker("a", stop_timeout_s=5.0), worker("b"))
    world.settle()
    world.tree("a").obeys = False
    world.exits("b")
    world.settle(Shutdown())
    world.pass_s(10.0, world.asks("restart", "b"))
    assert world.done
    assert not world.did(Launch)


def test_every_command_is_told_with_who_asked() -> None:
    world = running()
    world.settle(world.asks("reset"))
    told = [one for one in world.actions if isinstance(one, Notice) and one.event == "reset asked for"]
    assert [one.fields for one in told] == [{"by": "uid 1000"}]


def test_a_worker_that_was_removed_can_still_be_hurried_by_its_base_name() -> None:
    world = World(*replicas("chat", 1, drain=DRAIN))
    world.settle()
    world.reload()
    world.settle()
    assert world.phase("chat-1") is Phase.DRAINING
    world.turn(world.asks("stop", "chat", now=True))
    assert world.did(Signal)
