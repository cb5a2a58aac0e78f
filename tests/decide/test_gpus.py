"""GPUs: levels, pressure relief, quarantine."""

import pytest

from decide.world import GIB, GPU_A, GPU_B, World, worker
from supervisor.decide.pressure import gpu_level
from supervisor.model.action import Kill, Launch, Signal
from supervisor.model.phase import Cause, GpuState, Phase, Pressure
from supervisor.model.plan import GpuChoice, GpuLevels, GpuPlan, RestartRule

N, H, C, E = Pressure.NORMAL, Pressure.HIGH, Pressure.CRITICAL, Pressure.EXTREME


@pytest.mark.parametrize(
    ("used", "past", "expected"),
    [
        (0.74, N, N), (0.75, N, H), (0.85, N, C), (0.95, N, E),
        (0.71, H, H), (0.69, H, N), (0.81, C, C), (0.79, C, H), (0.91, E, E), (0.89, E, C),
        (0.72, E, H), (0.10, E, N), (0.96, H, E),
    ],
)  # fmt: skip
def test_a_level_begins_at_its_floor_and_ends_below_its_hysteresis(
    used: float, past: Pressure, expected: Pressure
) -> None:
    assert gpu_level(GpuLevels(), used, past) is expected


RELIEF = GpuPlan(restart_above=0.85, restart_for_s=10.0)


def full() -> World:
    one = worker("one", gpus=GpuChoice("listed", (0,)), priority=1)
    two = worker("two", gpus=GpuChoice("listed", (0,)))
    other = worker("other", gpus=GpuChoice("listed", (1,)))
    world = World(one, two, other, gpus=[GPU_A, GPU_B], gpu=RELIEF)
    world.settle()
    world.pass_s(4.0)
    world.tree("one").vram[GPU_A] = 12 * GIB
    world.tree("two").vram[GPU_A] = 10 * GIB
    world.tree("other").vram[GPU_B] = 4 * GIB
    return world


def test_a_full_gpu_has_its_least_worker_restarted_once_it_has_lasted() -> None:
    world = full()
    world.pass_s(9.0)
    assert not world.did(Signal)
    world.pass_s(3.0)
    [stopped] = world.did(Signal)
    assert stopped.worker == "two"
    assert stopped.reason == "GPU 0 has been 93% full for 10 s; two is the largest of the lowest priority (0)"
    assert world.of("two").last.cause is Cause.GPU_MEMORY  # type: ignore[union-attr]


def test_a_gpu_that_is_no_longer_read_is_not_relieved() -> None:
    world = full()
    world.pass_s(4.0)
    world.gpus[GPU_A].frozen_s = world.now_s
    world.pass_s(120.0)
    assert not world.did(Signal)


def test_a_gpu_whose_use_is_missing_is_not_relieved() -> None:
    world = full()
    world.pass_s(4.0)
    world.gpus[GPU_A].readable = False
    world.pass_s(120.0)
    assert not world.did(Signal)


def test_a_short_peak_restarts_nobody() -> None:
    world = full()
    world.pass_s(8.0)
    world.tree("one").vram[GPU_A] = GIB
    world.pass_s(4.0)
    world.tree("one").vram[GPU_A] = 12 * GIB
    world.pass_s(9.0)
    assert not world.did(Signal)


def test_the_next_one_has_to_last_anew() -> None:
    world = full()
    world.pass_s(14.0)
    world.newborn = {}
    world.tree("one").vram[GPU_A] = 22 * GIB
    world.pass_s(9.0)
    assert not world.did(Signal)
    world.pass_s(8.0)
    assert [one.worker for one in world.did(Signal)] == ["one"]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (GpuState.LOST, "it is lost (fell off the bus)"),
        (GpuState.HUNG, "its driver does not answer"),
        (GpuState.MISMATCH, "its driver was upgraded underneath the running one; a reboot mends it"),
        (GpuState.FAILED, "it answers errors"),
    ],
)
def test_a_faulty_gpu_is_quarantined_and_comes_back(state: GpuState, words: str) -> None:
    world = full()
    world.gpus[GPU_A].state = state
    world.pass_s(8.0)
    [told] = world.told("gpu quarantined")
    assert told.reason == f"{words}: nothing is started or restarted on it until it recovers"
    assert (told.gpu, told.level, told.cause) == (GPU_A, "error", Cause.GPU_FAULT)
    world.gpus[GPU_A].state = GpuState.OK
    world.pass_s(2.1)
    [told] = world.told("gpu recovered")
    assert told.reason == f"it was quarantined: {words}"
    assert world.memory.gpus[GPU_A].quarantine is None


def aged() -> World:
    rule = RestartRule(first_s=1.0, max_s=2.0)
    one = worker("one", gpus=GpuChoice("listed", (0,)), max_age_s=60.0, max_age_jitter=0.0, restart=rule)
    two = worker("two", gpus=GpuChoice("listed", (GPU_B,)), max_age_s=60.0, max_age_jitter=0.0)
    world = World(one, two, gpus=[GPU_A, GPU_B])
    world.settle()
    return world


def test_restarts_on_a_quarantined_gpu_are_put_off_and_others_are_not() -> None:
    world = aged()
    world.gpus[GPU_A].state = GpuState.HUNG
    world.pass_s(70.0)
    assert [one.worker for one in world.did(Signal)] == ["two"]
    [told] = world.told("restart deferred")
    assert told.reason == (
        "age 1min has reached 1min; waits because GPU GPU-aaaa is quarantined, and it could not start again"
    )
    world.gpus[GPU_A].state = GpuState.OK
    world.pass_s(3.0)
    assert [one.worker for one in world.did(Signal)] == ["one"]


def test_restarts_on_a_gpu_that_vanished_are_put_off() -> None:
    world = aged()
    world.gpus[GPU_A].there = False
    world.gpu_missing = "the driver does not answer"
    world.pass_s(70.0)
    assert world.of("one").restarts == 0
    assert world.of("two").restarts == 1
    assert world.told("restart deferred")[0].reason.endswith(
        "GPU GPU-aaaa is not there: the driver does not answer, and it could not start again"
    )


def test_nothing_is_started_on_a_quarantined_gpu() -> None:
    world = aged()
    world.gpus[GPU_A].state = GpuState.LOST
    world.turn()
    world.exits("one")
    world.pass_s(50.0)
    assert not world.did(Launch)
    assert world.of("one").waits_for == "GPU GPU-aaaa: it is lost (fell off the bus)"
    world.gpus[GPU_A].state = GpuState.OK
    world.pass_s(2.1)
    assert world.phase("one") is Phase.READY


def test_a_lost_gpu_kills_nobody() -> None:
    world = full()
    world.gpus[GPU_A].state = GpuState.LOST
    world.pass_s(300.0)
    assert not world.did(Signal)
    assert not world.did(Kill)


def test_heat_is_told_when_it_begins_and_when_it_ends() -> None:
    world = World(gpus=[GPU_A])
    world.gpus[GPU_A].celsius = 86.0
    world.pass_s(10.0)
    assert [one.reason for one in world.told("gpu hot")] == ["86 degrees C, the limit is 85"]
    world.gpus[GPU_A].celsius = 60.0
    world.pass_s(10.0)
    assert [one.reason for one in world.told("gpu cool again")] == ["60 degrees C, the limit is 85"]


def test_relieving_a_gpu_counts_against_the_restart_budget() -> None:
    world = full()
    world.pass_s(14.0)
    assert len(world.of("two").failures_s) == 1
    assert world.of("two").backoff == 1
