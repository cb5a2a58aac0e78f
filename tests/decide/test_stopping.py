"""A stop: drain, stop signal, the stop signal again, SIGKILL, and what is left of the tree and the GPU."""

from typing import Any

from decide.world import GIB, GPU_A, GPU_B, World, worker
from supervisor.model.action import Forget, Kill, Launch, Probe, Signal
from supervisor.model.news import Shutdown
from supervisor.model.phase import Phase
from supervisor.model.plan import CommandTarget, DrainRule, GpuChoice, LlamaTarget

DRAIN = DrainRule(CommandTarget(("idle",)), timeout_s=30.0)


def running(**fields: Any) -> World:  # noqa: ANN401 - any field of a plan
    world = World(worker(**fields), gpus=[GPU_A, GPU_B])
    world.settle()
    assert world.phase() is Phase.READY
    return world


def test_a_worker_is_drained_before_its_stop_signal() -> None:
    world = running(drain=DRAIN, stop_signal=2)
    world.answer = False
    world.settle(world.asks("stop"))
    world.pass_s(5.0)
    assert world.phase() is Phase.DRAINING
    assert 8 <= len(world.did(Probe)) <= 12
    world.answer = True
    world.pass_s(0.6)
    assert [one.signum for one in world.did(Signal)] == [2]
    assert world.phase() is Phase.STOPPED


def test_a_llama_server_is_not_asked_more_often_than_it_can_bear() -> None:
    world = running(drain=DrainRule(LlamaTarget("http://x"), timeout_s=30.0))
    world.answer = False
    world.settle(world.asks("stop"))
    world.pass_s(12.0)
    assert 9 <= len(world.did(Probe)) <= 11


def test_a_drain_command_may_take_all_the_drain_time_and_a_probe_only_some_of_it() -> None:
    for target, timeout_s in ((CommandTarget(("idle",)), 30.0), (LlamaTarget("http://x"), 5.0)):
        world = running(drain=DrainRule(target, timeout_s=30.0))
        world.settle(world.asks("stop"))
        [asked] = world.did(Probe)
        assert asked.timeout_s == timeout_s


def test_a_worker_that_never_gets_idle_is_signalled_at_its_drain_timeout() -> None:
    world = running(drain=DRAIN)
    world.settle(world.asks("stop", reason="upgrade"))
    world.pass_s(29.9)
    assert not world.did(Signal)
    world.pass_s(0.2)
    assert world.did(Signal)[0].reason == "upgrade; not idle within the drain timeout"


def test_without_a_drain_rule_the_stop_signal_is_sent_at_once() -> None:
    world = running()
    world.turn(world.asks("stop"))
    assert [one.signum for one in world.did(Signal)] == [15]


def test_now_skips_the_drain_even_of_one_under_way() -> None:
    world = running(drain=DRAIN)
    world.turn(world.asks("stop", now=True))
    assert world.did(Signal)
    world = running(drain=DRAIN)
    world.settle(world.asks("stop"))
    world.turn(world.asks("stop", now=True))
    assert world.did(Signal)


def test_the_stop_signal_is_sent_a_second_time_and_then_sigkill_to_the_tree() -> None:
    world = running(stop_again_s=10.0, stop_timeout_s=60.0)
    world.tree().obeys = False
    world.turn(world.asks("stop", reason="upgrade"))
    assert len(world.did(Signal)) == 1
    world.pass_s(9.9)
    assert not world.did(Signal)
    world.pass_s(0.2)
    assert len(world.did(Signal)) == 1
    world.pass_s(49.0)
    assert not world.did(Signal)
    assert not world.did(Kill)
    world.pass_s(1.0)
    assert [one.reason for one in world.did(Kill)] == ["upgrade; still running 60 s after the stop signal"]
    assert world.phase() is Phase.STOPPED


def test_sigkill_is_repeated_until_the_tree_is_gone_and_is_told_once_when_it_takes_too_long() -> None:
    world = running(stop_timeout_s=1.0)
    world.tree().obeys = world.tree().killable = False
    world.settle(world.asks("stop"))
    world.pass_s(3.0)
    assert 6 <= len(world.did(Kill)) <= 10
    world.pass_s(60.0)
    [told] = world.told("worker unkillable")
    assert told.reason == "it does not end 30 s after SIGKILL (it hangs in the kernel, or in a driver)"
    assert world.phase() is Phase.KILLING
    world.tree().killable = True
    world.pass_s(1.0)
    assert world.phase() is Phase.STOPPED


def test_an_operators_stop_during_an_age_restart_lets_it_rest() -> None:
    world = running(max_age_s=60.0, max_age_jitter=0.0, stop_timeout_s=30.0)
    world.tree().obeys = False
    world.pass_s(61.0)
    assert world.phase() is Phase.STOPPING
    world.settle(world.asks("stop"))
    world.pass_s(120.0)
    assert world.phase() is Phase.STOPPED
    assert not world.did(Launch)


def test_an_operators_start_during_a_stop_brings_it_back() -> None:
    world = running(stop_timeout_s=5.0)
    world.tree().obeys = False
    world.settle(world.asks("stop"))
    world.settle(world.asks("start"))
    world.pass_s(6.0)
    assert world.phase() is Phase.READY


def test_a_worker_that_is_stopping_may_ask_for_more_time() -> None:
    world = running(stop_timeout_s=5.0)
    world.tree().obeys = False
    world.settle(world.asks("stop"))
    world.pass_s(3.0)
    world.settle(world.notifies(extend_s=20.0))
    world.pass_s(19.0)
    assert not world.did(Kill)
    world.pass_s(1.1)
    assert world.did(Kill)


def test_what_outlives_the_main_process_is_killed() -> None:
    world = running()
    world.tree().others = [901, 902]
    world.exits()
    world.settle()
    assert [one.reason for one in world.did(Kill)] == ["2 processes outlive the main one"]
    world.pass_s(5.0)
    assert world.phase() is Phase.READY


def test_a_worker_is_never_started_beside_what_is_left_of_it() -> None:
    world = running()
    world.tree().others, world.tree().killable = [901], False
    world.exits()
    world.pass_s(600.0)
    assert world.phase() is Phase.RECLAIMING
    assert world.of().waits_for == "1 of its processes to end"
    assert not world.did(Launch)
    [told] = world.told("worker unkillable")
    assert told.reason == "1 processes of it cannot be killed (pid 901): it is not started beside them"
    world.tree().killable = True
    world.pass_s(5.0)
    assert world.phase() is Phase.READY


def test_a_tree_that_nobody_can_see_is_not_taken_for_gone() -> None:
    world = running()
    world.tree().seen = False
    world.now_s += 1.0
    world.exits()
    world.pass_s(600.0)
    assert world.phase() is Phase.RECLAIMING
    assert [one.reason for one in world.told("worker unseen")] == [
        "nobody can see whether its processes are gone: it is not started beside them"
    ]


def on_gpu() -> World:
    world = running(gpus=GpuChoice("listed", (0,)))
    world.tree().vram[GPU_A] = 8 * GIB
    world.pass_s(2.1)
    return world


def test_the_successor_waits_for_the_gpu_memory_to_be_back() -> None:
    world = on_gpu()
    world.gpus[GPU_A].nobody_bytes += 8 * GIB  # the driver has not given it back
    world.settle(world.asks("restart", now=True))
    world.pass_s(5.0)
    assert world.phase() is Phase.RECLAIMING
    assert world.of().waits_for == "memory of GPU-aaaa to come back"
    assert not world.did(Forget)
    world.gpus[GPU_A].nobody_bytes -= 8 * GIB
    world.pass_s(0.2)
    assert world.phase() is Phase.READY


def test_gpu_memory_that_never_comes_back_quarantines_that_gpu_until_it_does() -> None:
    world = on_gpu()
    world.gpus[GPU_A].nobody_bytes += 8 * GIB
    world.settle(world.asks("restart", now=True))
    world.pass_s(31.0)
    [told] = world.told("gpu quarantined")
    assert told.reason == "chat ended 30 s ago, and 8GiB more than before it started are held by nobody"
    assert world.phase() is Phase.WAITING
    world.pass_s(60.0)
    assert world.phase() is Phase.WAITING
    world.gpus[GPU_A].nobody_bytes -= 8 * GIB
    world.pass_s(2.1)
    assert world.told("gpu recovered")
    assert world.phase() is Phase.READY


def test_a_reset_releases_a_gpu_whose_memory_an_operator_knows_about() -> None:
    world = on_gpu()
    world.gpus[GPU_A].nobody_bytes += 8 * GIB
    world.settle(world.asks("restart", now=True))
    world.pass_s(31.0)
    assert world.phase() is Phase.WAITING
    world.settle(world.asks("reset"))
    [told] = world.told("gpu recovered")
    assert told.reason.startswith("released by an operator; it was quarantined: chat ended 30 s ago")
    world.pass_s(2.1)
    assert world.phase() is Phase.READY


def test_a_gpu_that_was_not_read_since_the_end_says_nothing_about_it() -> None:
    world = on_gpu()
    world.gpus[GPU_A].frozen_s = world.now_s
    world.now_s += 1.0
    world.settle(world.asks("restart", now=True))
    assert world.phase() is Phase.RECLAIMING
    world.gpus[GPU_A].frozen_s = None
    world.pass_s(0.2)
    assert world.phase() is Phase.READY


def test_memory_of_other_processes_is_not_taken_for_what_nobody_holds() -> None:
    other = worker("other", gpus=GpuChoice("listed", (0,)))
    world = World(worker(gpus=GpuChoice("listed", (0,))), other, gpus=[GPU_A])
    world.settle()
    world.settle()
    world.tree("other").vram[GPU_A] = 10 * GIB
    world.settle(world.asks("restart", now=True))
    assert world.phase() is Phase.READY


def test_gpu_memory_that_could_never_be_told_apart_holds_nobody_up() -> None:
    world = World(worker(gpus=GpuChoice("listed", (0,))), gpus=[GPU_A])
    world.gpus[GPU_A].listed = False
    world.settle()
    world.settle()
    world.gpus[GPU_A].nobody_bytes += 8 * GIB
    world.settle(world.asks("restart", now=True))
    assert world.phase() is Phase.READY


def test_gpu_memory_that_can_no_longer_be_told_apart_is_waited_for_and_held_against_nobody() -> None:
    world = on_gpu()
    world.gpus[GPU_A].listed = False
    world.settle(world.asks("restart", now=True))
    world.pass_s(29.0)
    assert world.phase() is Phase.RECLAIMING
    world.pass_s(2.0)
    assert world.phase() is Phase.READY
    assert world.told("gpu quarantined") == []


def test_the_end_of_the_supervisor_leaves_gpu_memory_that_stays_away_to_the_next_one() -> None:
    world = on_gpu()
    world.gpus[GPU_A].nobody_bytes += 8 * GIB
    world.settle(Shutdown())
    world.pass_s(4.5)
    assert not world.done
    world.pass_s(1.0)
    assert world.done
    [told] = world.told("gpu quarantined")
    assert told.reason == "chat ended 5 s ago, and 8GiB more than before it started are held by nobody"
    assert world.memory.gpus[GPU_A].quarantine == told.reason


def test_an_end_in_a_hurry_waits_for_no_gpu_memory() -> None:
    world = on_gpu()
    world.gpus[GPU_A].nobody_bytes += 8 * GIB
    world.settle(Shutdown())
    assert world.phase() is Phase.RECLAIMING
    world.settle(Shutdown(hurry=True))
    world.pass_s(0.2)
    assert world.done
