"""A worker that leaks is told of once, and restarted at rest before its cap where that is wanted."""

from typing import Any

import pytest

from decide.world import GIB, GPU_A, MIB, World, worker
from supervisor.decide.leak import forecast
from supervisor.model.action import Notice
from supervisor.model.phase import Cause
from supervisor.model.plan import DrainRule, GpuChoice, HttpTarget, MemoryCaps, WorkerPlan
from supervisor.model.reading import Missing

CAP = MemoryCaps(cap_bytes=GIB)
PINNED = GpuChoice("listed", (GPU_A,))
HOUR_S = 3600.0
RATE = 900 * MIB / (3 * HOUR_S)  # from 100 MiB, the cap is 3 hours and 5 minutes away


def leaky(**fields: Any) -> WorkerPlan:  # noqa: ANN401 - any field of a plan
    return worker(memory=CAP, **fields)


def leaking(plan: WorkerPlan, rate: float = RATE) -> World:
    world = World(plan, poll_interval_s=10.0)
    world.newborn = {"growth_bytes_s": rate}
    world.settle()
    return world


def told(world: World) -> list[Notice]:
    return [one for one in world.log if isinstance(one, Notice) and one.event == "leak found"]


def test_a_leak_is_told_once_with_its_rate_and_its_time() -> None:
    world = leaking(leaky())
    world.pass_s(1.9 * HOUR_S)
    assert told(world) == []
    assert forecast(world.life(), world.now_s) is None
    world.pass_s(0.4 * HOUR_S)
    assert len(told(world)) == 1
    notice = told(world)[0]
    assert (notice.level, notice.worker, notice.cause) == ("warning", "chat", Cause.LEAK)
    assert notice.incident == f"{world.life().run}-leak"
    assert notice.outcome == "told"
    assert notice.reason.startswith("memory at rest grows by 300MiB an hour (300MiB to 300MiB), and reaches")
    assert notice.reason.endswith("; the cap restarts it (leak.forecast restarts it before)")
    assert world.of().restarts == 0
    found = forecast(world.life(), world.now_s)
    assert found is not None
    assert found.in_s == pytest.approx(3.08 * HOUR_S - 2.3 * HOUR_S, rel=0.02)


def test_without_a_forecast_in_the_plan_the_cap_restarts_it() -> None:
    world = leaking(leaky())
    world.pass_s(3.3 * HOUR_S)
    assert world.of().last.cause is Cause.MEMORY_CAP  # type: ignore[union-attr]


def test_with_a_forecast_it_is_restarted_that_long_before_its_cap_and_not_sooner() -> None:
    world = leaking(leaky(leak_forecast_s=1800.0))
    world.pass_s(2.5 * HOUR_S)
    assert world.of().restarts == 0
    assert told(world)[0].reason.endswith("; restarted at an idle moment in the last 30min")
    world.pass_s(0.15 * HOUR_S)
    assert world.of().restarts == 1
    last = world.of().last
    assert last is not None
    assert last.cause is Cause.LEAK
    assert "and reaches the cap of 1GiB in 30min" in last.reason
    assert world.of().failures_s == ()
    assert world.of().peak_memory_bytes < GIB


def test_each_life_begins_anew() -> None:
    world = leaking(leaky(leak_forecast_s=1800.0))
    world.pass_s(2.65 * HOUR_S)
    assert world.of().restarts == 1
    assert forecast(world.life(), world.now_s) is None
    assert not world.life().leak_told
    world.pass_s(2.65 * HOUR_S)
    assert (world.of().restarts, len(told(world))) == (2, 2)


def test_it_is_drained_first() -> None:
    drain = DrainRule(HttpTarget("http://127.0.0.1:1/idle"))
    world = leaking(leaky(leak_forecast_s=1800.0, drain=drain))
    world.pass_s(2.65 * HOUR_S)
    events = [one.event for one in world.log if isinstance(one, Notice) and one.cause is Cause.LEAK]
    assert events[:2] == ["leak found", "worker draining"]


def test_a_leak_that_is_faster_than_the_forecast_is_told_and_left_to_its_cap() -> None:
    world = leaking(leaky(leak_forecast_s=4 * HOUR_S))
    world.pass_s(2.9 * HOUR_S)
    assert world.of().restarts == 0
    assert told(world)[0].reason.endswith(
        "; the cap restarts it: restarts before that were less than 4h apart"
    )
    world.pass_s(0.4 * HOUR_S)
    assert world.of().last.cause is Cause.MEMORY_CAP  # type: ignore[union-attr]


def test_planned_restarts_are_never_closer_than_the_forecast() -> None:
    world = leaking(leaky(leak_forecast_s=2.4 * HOUR_S))
    world.pass_s(2.39 * HOUR_S)
    assert world.of().restarts == 0
    world.pass_s(0.02 * HOUR_S)
    assert world.of().last.cause is Cause.LEAK  # type: ignore[union-attr]


def work(world: World, more_bytes: int) -> None:
    """Let the worker hold so much more, or less, from now on."""
    tree = world.tree()
    assert isinstance(tree.memory_bytes, int)
    tree.memory_bytes += more_bytes


def load(world: World, until_s: float, high: int) -> None:
    """Let a worker that leaks be at work nearly all the time, `high` bytes above its floor."""
    life = world.life().run
    while world.now_s < until_s and world.life().run == life:
        work(world, high)
        world.pass_s(130.0)
        if world.life().run == life:
            work(world, -high)
            world.pass_s(20.0)


def test_it_waits_for_a_moment_of_rest_and_counts_the_load_as_memory() -> None:
    world = leaking(leaky(leak_forecast_s=1800.0))
    begun_s = world.now_s
    load(world, begun_s + 4 * HOUR_S, 100 * MIB)
    last = world.of().last
    assert last is not None
    assert last.cause is Cause.LEAK
    # with 100 MiB of load on top, the cap is 20 minutes nearer
    lived_s = world.now_s - begun_s
    assert 2.2 * HOUR_S < lived_s < 2.4 * HOUR_S
    assert world.life().launched_s - begun_s == pytest.approx(lived_s, abs=160)


def test_at_work_it_waits_and_in_the_end_waits_no_longer() -> None:
    world = leaking(leaky(leak_forecast_s=1800.0))
    load(world, world.now_s + 2.1 * HOUR_S, 100 * MIB)
    work(world, 90 * MIB)
    world.pass_s(0.2 * HOUR_S)
    assert world.of().restarts == 0
    world.pass_s(0.6 * HOUR_S)
    assert world.of().last.cause is Cause.LEAK  # type: ignore[union-attr]


def test_a_busy_gpu_of_its_own_is_no_rest() -> None:
    def restarted_after_s(percent: float | Missing) -> float:
        world = World(leaky(leak_forecast_s=1800.0, gpus=PINNED), gpus=(GPU_A,), poll_interval_s=10.0)
        world.gpus[GPU_A].utilization = percent
        world.newborn = {"growth_bytes_s": RATE}
        world.settle()
        begun_s = world.now_s
        while world.of().restarts == 0:
            world.pass_s(60.0)
        assert world.of().last.cause is Cause.LEAK  # type: ignore[union-attr]
        return world.now_s - begun_s

    idle_s = restarted_after_s(3.0)
    assert restarted_after_s(Missing("not supported")) == idle_s
    assert restarted_after_s(80.0) - idle_s == pytest.approx(900.0, abs=61.0)


def test_gpu_memory_that_leaks_is_told_as_such() -> None:
    world = World(
        leaky(vram_cap_bytes=GIB, leak_forecast_s=1800.0, gpus=PINNED), gpus=(GPU_A,), poll_interval_s=10.0
    )
    world.settle()
    tree, held = world.tree(), 100.0 * MIB
    while world.of().restarts == 0:
        held += RATE * 10
        tree.vram[GPU_A] = int(held)
        world.pass_s(10.0)
    last = world.of().last
    assert last is not None
    assert last.cause is Cause.LEAK
    assert last.reason.startswith("GPU memory at rest grows by ")


def test_what_was_not_read_neither_tells_nor_restarts() -> None:
    world = leaking(leaky(leak_forecast_s=1800.0))
    world.pass_s(1.5 * HOUR_S)
    world.tree().memory_bytes = Missing("cannot read")
    world.pass_s(3 * HOUR_S)
    assert (world.of().restarts, told(world)) == (0, [])


def test_a_leak_that_nobody_sees_any_more_restarts_nothing() -> None:
    world = leaking(leaky(leak_forecast_s=1800.0))
    world.pass_s(2.4 * HOUR_S)
    assert len(told(world)) == 1
    world.tree().memory_bytes = Missing("cannot read")
    world.pass_s(3 * HOUR_S)
    assert world.of().restarts == 0
    found = forecast(world.life(), world.now_s)
    assert found is not None
    assert found.in_s == 0.0


def test_before_it_is_ready_and_warm_nothing_is_kept() -> None:
    world = leaking(leaky(ready=HttpTarget("http://127.0.0.1:1/"), start_timeout_s=9 * HOUR_S))
    world.pass_s(HOUR_S)
    assert world.life().memory_trend.readings == 0
    world.answers(good=True)
    world.pass_s(20.0)
    assert world.life().memory_trend.readings > 0


def test_without_a_cap_nothing_is_kept() -> None:
    world = leaking(worker())
    world.pass_s(HOUR_S)
    assert (world.life().memory_trend.readings, world.life().vram_trend.readings) == (0, 0)


def test_a_new_daemon_looks_anew_and_does_not_tell_again() -> None:
    world = leaking(leaky())
    world.pass_s(2.3 * HOUR_S)
    world.crash()
    world.settle()
    assert world.life().leak_told
    assert world.life().memory_trend.floors == ()
    world.pass_s(0.5 * HOUR_S)
    assert len(told(world)) == 1


def test_the_slope_is_found_anew_only_where_a_stretch_ends() -> None:
    world = leaking(leaky())
    world.pass_s(2.3 * HOUR_S)
    changes: list[bool] = []
    for _ in range(100):
        before = world.life().memory_trend
        world.pass_s(10.0)
        after = world.life().memory_trend
        if after.growth is not before.growth:
            changes.append(after.floors is not before.floors)
    assert len(changes) > 1
    assert all(changes)
