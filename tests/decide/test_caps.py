"""Caps: k of the last n fresh readings, after warm-up."""

import pytest

from decide.world import GIB, GPU_A, MIB, World, worker
from supervisor.decide.caps import breached, next_sample_s, weigh
from supervisor.model.action import Kill, Signal
from supervisor.model.memory import Window
from supervisor.model.phase import Cause, Phase
from supervisor.model.plan import BreachRule, MemoryCaps
from supervisor.model.reading import Missing

RULE = BreachRule(samples=3, of=5, warm_up_s=30.0)
CAPPED = worker(memory=MemoryCaps(cap_bytes=GIB), breach=RULE)


def world_at_work() -> World:
    world = World(CAPPED)
    world.settle()
    world.pass_s(32.0)
    return world


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ((), False),
        ((True, True), False),
        ((True, True, True), True),
        ((True, False, True, False, True), True),
        ((True, True, True, False), False),  # the newest is below
        ((True, False, False, True, False), False),
    ],
)
def test_a_cap_is_breached_by_k_of_n_with_the_newest_over_it(over: tuple[bool, ...], expected: bool) -> None:  # noqa: FBT001
    assert breached(Window(over, 9.0), RULE) is expected


def test_only_the_last_n_readings_count() -> None:
    window = Window()
    for at, size in enumerate([9, 9, 1, 1, 1, 1, 9], 1):
        window = weigh(window, size, float(at), 5, RULE)
    assert window == Window((False, False, False, False, True), 7.0)


def test_a_reading_at_the_cap_is_not_over_it() -> None:
    assert weigh(Window(), 5, 1.0, 5, RULE) == Window((False,), 1.0)


def test_a_stale_reading_is_not_counted() -> None:
    window = weigh(Window(), 9, 1.0, 5, RULE)
    assert weigh(window, 9, 1.0, 5, RULE) is window


def test_a_missing_reading_neither_counts_nor_clears() -> None:
    window = Window((True, True), 1.0)
    assert weigh(window, Missing("EACCES"), 2.0, 5, RULE) is window


def test_a_worker_over_its_cap_is_stopped_at_the_third_reading() -> None:
    world = world_at_work()
    world.tree().memory_bytes = 2 * GIB
    world.pass_s(2.1)  # one look, and because it grew so fast a second reading 20 ms later
    assert world.life().memory.over[-3:] == (False, True, True)
    assert world.phase() is Phase.READY
    world.pass_s(2.0)
    [stopped] = world.did(Signal)
    assert stopped.signum == 15
    assert stopped.reason == "memory 2GiB is above its cap of 1GiB in 3 of 5 readings"
    assert world.of().last is not None
    assert world.of().last.cause is Cause.MEMORY_CAP  # type: ignore[union-attr]


def test_nothing_is_counted_during_warm_up() -> None:
    world = World(CAPPED)
    world.newborn = {"memory_bytes": 2 * GIB}
    world.settle()
    world.pass_s(29.9)
    assert world.life().memory.over == ()
    world.pass_s(4.0)
    assert world.life().memory.over == (True, True)
    assert world.phase() is Phase.READY


def test_a_worker_that_cannot_be_read_is_never_stopped_by_its_cap() -> None:
    world = world_at_work()
    world.tree().memory_bytes = 2 * GIB
    world.pass_s(2.1)
    world.tree().memory_bytes = Missing("EACCES")
    world.pass_s(600.0)
    assert world.phase() is Phase.READY
    assert not [one for one in world.log if isinstance(one, Signal | Kill)]


def test_missing_readings_do_not_clear_what_was_counted() -> None:
    world = world_at_work()
    world.tree().memory_bytes = 2 * GIB
    world.pass_s(2.1)
    world.tree().memory_bytes = Missing("EACCES")
    world.pass_s(20.0)
    world.tree().memory_bytes = 2 * GIB
    world.pass_s(2.1)
    assert world.did(Signal)


def test_looks_between_readings_do_not_count_a_reading_twice() -> None:
    world = world_at_work()
    world.tree().memory_bytes = 2 * GIB
    world.pass_s(2.1)
    for _ in range(10):
        world.turn(look=False)
    assert world.life().memory.over[-3:] == (False, True, True)


def test_gpu_memory_over_its_cap_is_a_cause_of_its_own() -> None:
    world = World(worker(vram_cap_bytes=4 * GIB, breach=RULE), gpus=[GPU_A])
    world.settle()
    world.pass_s(32.0)
    world.tree().vram[GPU_A] = 6 * GIB
    world.pass_s(6.5)
    assert world.did(Signal)[0].reason == "GPU memory 6GiB is above its cap of 4GiB in 3 of 5 readings"
    assert world.of().last.cause is Cause.VRAM_CAP  # type: ignore[union-attr]


def test_gpu_memory_that_cannot_be_listed_stops_nobody() -> None:
    world = World(worker(vram_cap_bytes=4 * GIB, breach=RULE), gpus=[GPU_A])
    world.settle()
    world.tree().vram[GPU_A] = 6 * GIB
    world.gpus[GPU_A].listed = False
    world.pass_s(120.0)
    assert world.phase() is Phase.READY


@pytest.mark.parametrize(
    ("seen", "growth", "expected"),
    [
        (GIB, 0.0, None),
        (GIB, -5.0, None),
        (GIB, GIB / 2, 101.0),  # one GiB of room, half the time to it
        (2 * GIB, GIB * 1.0, 100.02),  # at the cap: a hundredth of it
        (4 * GIB, 1e12, 100.02),  # never more often than each 20 ms
    ],
)
def test_a_growing_worker_is_read_again_in_time(seen: int, growth: float, expected: float | None) -> None:
    assert next_sample_s(seen, growth, 2 * GIB, 100.0) == expected


@pytest.mark.parametrize(("gained", "expected"), [(63 << 20, 101.0), (64 << 20, 100.05)])
def test_after_a_leap_the_growth_is_measured_anew(gained: int, expected: float) -> None:
    assert next_sample_s(GIB, GIB / 2, 2 * GIB, 100.0, gained_bytes=gained) == expected


def test_a_worker_that_grows_at_1_gb_s_is_stopped_within_100_ms_of_its_cap() -> None:
    world = World(worker(memory=MemoryCaps(cap_bytes=2 * GIB), breach=BreachRule(3, 5, 0.0)))
    world.settle()
    world.pass_s(10.0)
    world.tree().growth_bytes_s = 1e9
    world.pass_s(2.5)
    stopped = [one for one in world.log if isinstance(one, Signal)]
    assert len(stopped) == 1
    crossed_s = (2 * GIB - 100 * MIB) / 1e9
    begun = world.told("worker stopping")[0].fields["memory_bytes"]
    assert isinstance(begun, int)
    assert 0 < (begun - 2 * GIB) / 1e9 < 0.1, crossed_s


def test_whoever_is_stopping_is_not_read_more_often() -> None:
    world = World(worker(memory=MemoryCaps(cap_bytes=GIB), breach=BreachRule(1, 1, 0.0)))
    world.newborn = {"growth_bytes_s": 1e9, "obeys": False}
    world.settle()
    world.pass_s(4.0)
    assert world.phase() is Phase.STOPPING
    assert world.life().sample_s is None


def test_a_worker_that_can_no_longer_be_seen_while_it_grows_waits_for_the_next_look() -> None:
    world = World(worker(memory=MemoryCaps(cap_bytes=4 * GIB), breach=BreachRule(1, 1, 0.0)))
    world.newborn = {"growth_bytes_s": 1e9}
    world.settle()
    world.pass_s(2.2)
    due_s = world.life().sample_s
    assert due_s is not None
    world.tree().seen = False
    world.now_s = due_s + 0.01
    woken = world.turn(look=False)
    assert woken.wake_s is None or woken.wake_s > world.now_s
    assert world.phase() is Phase.READY
