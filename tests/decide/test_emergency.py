"""The host's memory: floors, stalls, one victim at a time."""

from typing import Any

import pytest

from decide.world import GIB, MIB, World, worker
from supervisor.decide.glance import calls_for_a_turn, is_worth_a_closer_look
from supervisor.decide.pressure import judge_host, watch_stalls
from supervisor.decide.victims import Candidate, choose
from supervisor.model.action import Kill, Launch, Probe, Signal
from supervisor.model.memory import HostMemory, Memory
from supervisor.model.phase import Cause, Phase, Pressure
from supervisor.model.plan import CommandTarget, DrainRule, HostPlan, MemoryCaps, Plan, StallRule
from supervisor.model.reading import Missing
from supervisor.model.snapshot import HostSample

PLAN = HostPlan(warn_available_bytes=4 * GIB, critical_available_bytes=2 * GIB)


def sample(available: int | Missing, **fields: Any) -> HostSample:  # noqa: ANN401 - any field
    return HostSample(100.0, memory_total_bytes=64 * GIB, memory_available_bytes=available, **fields)


@pytest.mark.parametrize(
    ("available", "past", "expected"),
    [
        (40 * GIB, Pressure.NORMAL, Pressure.NORMAL),
        (4 * GIB, Pressure.NORMAL, Pressure.NORMAL),
        (4 * GIB - 1, Pressure.NORMAL, Pressure.HIGH),
        (4 * GIB + 1, Pressure.HIGH, Pressure.HIGH),  # it ends 5 % above
        (4 * GIB + 210 * MIB, Pressure.HIGH, Pressure.NORMAL),
        (2 * GIB, Pressure.HIGH, Pressure.HIGH),
        (2 * GIB - 1, Pressure.NORMAL, Pressure.CRITICAL),
        (GIB, Pressure.NORMAL, Pressure.CRITICAL),
        (GIB - 1, Pressure.NORMAL, Pressure.EXTREME),
    ],
)
def test_the_level_follows_the_floors(available: int, past: Pressure, expected: Pressure) -> None:
    judged = judge_host(PLAN, sample(available), HostMemory(pressure=past))
    assert judged is not None
    assert judged.level is expected


@pytest.mark.parametrize(
    ("available", "listed", "expected"),
    [
        (4 * GIB, 0, False),
        (4 * GIB - 1, 0, True),
        (GIB, Missing("x"), True),
        (GIB, 4 * GIB, False),
        (Missing("EIO"), 0, False),
    ],
)
def test_all_that_is_free_is_counted_where_little_seems_to_be_left(
    available: int | Missing, listed: int | Missing, *, expected: bool
) -> None:
    seen = sample(available, memory_per_cpu_bytes=listed)
    plan = Plan(host=PLAN)
    assert is_worth_a_closer_look(plan, Memory("i"), seen) is expected
    assert calls_for_a_turn(plan, Memory("i"), seen) is expected


def test_unreadable_memory_is_no_level_at_all() -> None:
    assert judge_host(PLAN, sample(Missing("EIO")), HostMemory()) is None


def test_more_than_max_used_is_an_emergency() -> None:
    plan = HostPlan(critical_available_bytes=GIB, max_used=0.9)
    judged = judge_host(plan, sample(6 * GIB), HostMemory())
    assert judged is not None
    assert judged.reason == "6GiB of 64GiB available, more than max_used 90% used"
    calm = judge_host(plan, sample(7 * GIB), HostMemory())
    assert calm is not None
    assert calm.level is Pressure.NORMAL


STALLED = HostMemory(stalled_since_s=80.0)


@pytest.mark.parametrize(
    ("fields", "past", "expected"),
    [
        ({"psi_full_avg10": 50.0, "swap_total_bytes": 8 * GIB}, STALLED, Pressure.CRITICAL),
        ({"psi_full_avg10": 50.0, "swap_total_bytes": 0}, STALLED, Pressure.NORMAL),
        ({"psi_full_avg10": 50.0}, STALLED, Pressure.NORMAL),
        (
            {"psi_full_avg10": 50.0},
            HostMemory(stalled_since_s=80.0, scanned=5, scanned_s=91.0),
            Pressure.CRITICAL,
        ),
        (
            {"psi_full_avg10": 50.0},
            HostMemory(stalled_since_s=80.0, scanned=5, scanned_s=89.0),
            Pressure.NORMAL,
        ),
        (
            {"psi_full_avg10": 50.0, "swap_total_bytes": 8 * GIB},
            HostMemory(stalled_since_s=91.0),
            Pressure.NORMAL,
        ),
        ({"psi_full_avg10": Missing("x"), "swap_total_bytes": 8 * GIB}, STALLED, Pressure.NORMAL),
    ],
)
def test_a_stall_is_believed_only_with_swap_or_reclaim_and_once_it_has_lasted(
    fields: dict[str, Any], past: HostMemory, expected: Pressure
) -> None:
    judged = judge_host(PLAN, sample(40 * GIB, **fields), past)
    assert judged is not None
    assert judged.level is expected


def test_a_stall_begins_and_ends_with_what_is_read() -> None:
    begun = watch_stalls(PLAN, sample(1, psi_full_avg10=40.0, pages_scanned=5), HostMemory())
    assert (begun.stalled_since_s, begun.scanned, begun.scanned_s) == (100.0, 5, None)
    scanned = watch_stalls(PLAN, sample(1, psi_full_avg10=Missing("x"), pages_scanned=9), begun)
    assert (scanned.stalled_since_s, scanned.scanned_s) == (100.0, 100.0)
    assert watch_stalls(PLAN, sample(1, psi_full_avg10=39.9), begun).stalled_since_s is None
    assert (
        watch_stalls(HostPlan(pressure=None), sample(1, psi_full_avg10=90.0), begun).stalled_since_s is None
    )


def candidate(name: str, **fields: Any) -> Candidate:  # noqa: ANN401 - any field
    plain: dict[str, Any] = {
        "memory_bytes": 1,
        "over_cap": False,
        "priority": 0,
        "idle": False,
        "launched_s": 0.0,
    }
    return Candidate(name, **(plain | fields))


def test_victims_are_over_their_cap_then_of_low_priority_then_idle_then_large_then_new() -> None:
    order = [
        candidate("over", over_cap=True, priority=9),
        candidate("low", priority=-1),
        candidate("idle", idle=True),
        candidate("large", memory_bytes=5),
        candidate("new", launched_s=9.0),
        candidate("a"),
        candidate("b"),
    ]
    left = list(reversed(order))
    while left:
        victim = choose(left)
        assert victim is not None
        assert victim.name == order[len(order) - len(left)].name
        left.remove(victim)
    assert choose([]) is None


def three() -> World:
    world = World(worker("a", priority=1), worker("b"), worker("c"))
    world.settle()
    world.tree("b").memory_bytes = 5 * GIB
    world.pass_s(2.0)
    return world


def test_below_the_floor_one_victim_is_asked_to_stop_and_given_two_seconds() -> None:
    world = three()
    world.tree("b").obeys = False
    world.available = 2 * GIB - 1
    world.turn()
    [signalled] = world.did(Signal)
    assert (signalled.worker, signalled.signum) == ("b", 15)
    assert signalled.reason == (
        "host has 2GiB of 64GiB available, below critical_available 2GiB;"
        " b is the largest of the lowest priority (0)"
    )
    world.pass_s(1.9)
    assert not world.did(Kill)
    assert not world.did(Signal)
    world.pass_s(0.2)
    assert [one.worker for one in world.did(Kill)] == ["b"]


def test_below_half_the_floor_the_victim_is_killed_at_once() -> None:
    world = three()
    world.available = GIB - 1
    world.turn()
    assert [one.worker for one in world.did(Kill)] == ["b"]
    assert not world.did(Signal)


def test_a_victim_that_was_asked_is_killed_once_it_gets_worse() -> None:
    world = three()
    world.tree("b").obeys = False
    world.available = 2 * GIB - 1
    world.turn()
    world.available = GIB - 1
    world.turn()
    assert [one.worker for one in world.did(Kill)] == ["b"]


def test_the_next_victim_waits_for_the_memory_of_the_first() -> None:
    world = three()
    world.available = GIB - 1
    world.settle()
    assert [one.worker for one in world.did(Kill)] == ["b"]
    for _ in range(4):
        world.now_s += 0.1
        world.turn()
        assert not world.did(Kill)
    world.now_s += 0.2
    world.settle()
    assert [one.worker for one in world.did(Kill)] == ["c"]
    world.now_s += 0.6
    world.settle()
    assert [one.worker for one in world.did(Kill)] == ["a"]


def test_memory_that_came_back_to_the_lists_of_the_cpus_spares_the_next_victim() -> None:
    world = three()
    world.available = GIB - 1
    world.settle()
    assert [one.worker for one in world.did(Kill)] == ["b"]
    world.host["memory_per_cpu_bytes"] = 2 * GIB  # MemAvailable does not show it for seconds
    world.pass_s(10.0)
    assert [one.worker for one in world.log if isinstance(one, Kill)] == ["b"]


def test_a_victim_that_cannot_be_killed_protects_the_others_for_ten_seconds_only() -> None:
    world = three()
    world.tree("b").killable = False
    world.available = GIB - 1
    world.turn()
    world.pass_s(9.0)
    assert {one.worker for one in world.did(Kill)} == {"b"}
    world.pass_s(4.1)
    assert next(one.worker for one in world.did(Kill) if one.worker != "b") == "c"


def test_enough_memory_spares_the_rest() -> None:
    world = three()
    world.available = GIB - 1
    world.settle()
    world.available = 6 * GIB
    world.pass_s(60.0)
    assert not world.did(Kill)
    assert world.phase("b") is Phase.READY


def test_the_victim_is_not_started_again_in_the_emergency() -> None:
    world = three()
    world.available = GIB + 1
    world.settle()
    world.pass_s(0.4)
    assert world.phase("b") is Phase.WAITING
    world.pass_s(60.0)
    assert not world.did(Launch)
    assert world.of("b").waits_for == "host memory to recover (the host's memory is critical)"
    world.available = 40 * GIB
    world.pass_s(2.1)
    assert "b" in [one.worker for one in world.did(Launch)]


def test_the_victim_waits_until_it_would_not_cause_the_next_emergency() -> None:
    world = three()
    world.available = GIB - 1
    world.settle()
    world.available = 3 * GIB  # above the floor, below the warning: b held 5 GiB
    world.pass_s(10.0)
    assert world.of("b").waits_for == "7GiB of host memory; it held 5GiB when it was ended"
    world.available = 5 * GIB
    world.pass_s(2.1)
    assert world.phase("b") is Phase.READY


def test_nothing_is_started_while_the_hosts_memory_cannot_be_read() -> None:
    world = World(worker())
    world.available = Missing("EIO")
    world.pass_s(60.0)
    assert world.phase() is Phase.WAITING
    assert world.of().waits_for == "host memory to recover (the host's memory cannot be read)"


def test_a_host_that_cannot_be_read_kills_nobody() -> None:
    world = three()
    world.available = Missing("EIO")
    world.pass_s(60.0)
    assert not world.did(Kill)
    assert not world.did(Signal)


def test_that_nothing_is_left_to_end_is_told_once() -> None:
    world = World()
    world.available = GIB + 1
    world.pass_s(10.0)
    world.available = GIB - 1
    first = len(world.told("host memory helpless"))
    world.pass_s(10.0)
    assert first + len(world.told("host memory helpless")) == 1
    world.available = 40 * GIB
    world.pass_s(2.1)
    world.available = GIB + 1
    world.pass_s(2.1)
    assert len(world.told("host memory helpless")) == 1


def test_a_worker_over_its_cap_goes_first() -> None:
    world = World(worker("a", priority=-5), worker("b", priority=5, memory=MemoryCaps(cap_bytes=GIB)))
    world.settle()
    world.tree("a").memory_bytes = 9 * GIB
    world.tree("b").memory_bytes = 2 * GIB
    world.pass_s(2.0)
    world.available = GIB + 1
    world.turn()
    assert [(one.worker, one.reason.split("; ")[1]) for one in world.did(Signal)] == [
        ("b", "b is over its cap")
    ]


def test_a_draining_victim_is_hastened() -> None:
    drain = DrainRule(CommandTarget(("idle",)), timeout_s=600.0)
    world = World(worker(drain=drain))
    world.settle()
    world.settle(world.asks("restart"))
    assert world.phase() is Phase.DRAINING
    world.tree().obeys = False
    world.available = GIB + 1
    world.turn()
    assert world.did(Signal)
    world.pass_s(2.1)
    assert world.did(Kill)


def test_a_slow_stop_is_hastened_to_two_seconds() -> None:
    world = World(worker(stop_timeout_s=600.0))
    world.settle()
    world.tree().obeys = False
    world.settle(world.asks("stop"))
    world.available = GIB + 1
    world.turn()
    world.pass_s(2.1)
    assert world.did(Kill)
    world.settle()
    assert world.phase() is Phase.STOPPED


def test_a_victim_of_long_ago_that_stops_slowly_is_hastened_again() -> None:
    world = World(worker(stop_timeout_s=600.0))
    world.settle()
    world.available = GIB + 1
    world.settle()
    world.available = 40 * GIB
    world.pass_s(60.0)
    assert world.phase() is Phase.READY
    world.tree().obeys = False
    world.settle(world.asks("stop"))
    world.available = GIB + 1
    world.turn()
    world.pass_s(2.1)
    assert world.did(Kill)


def test_a_victim_cannot_ask_for_more_time() -> None:
    world = World(worker(stop_timeout_s=600.0))
    world.settle()
    world.tree().obeys = False
    world.settle(world.asks("stop"))
    world.available = GIB + 1
    world.turn()
    world.turn(world.notifies(extend_s=300.0))
    world.pass_s(2.1)
    assert world.did(Kill)


def test_a_stall_waits_longer_for_its_average_to_fall() -> None:
    world = World(worker("a"), worker("b"), worker("c"))
    world.settle()
    world.host = {"psi_full_avg10": 80.0, "swap_total_bytes": 8 * GIB}
    world.pass_s(12.1)
    assert len(world.did(Signal)) == 1
    world.pass_s(12.0)
    assert not world.did(Signal)
    world.pass_s(6.0)
    assert len(world.did(Signal)) == 1


def test_the_words_of_a_victim_become_the_reason_of_its_restart() -> None:
    world = three()
    world.available = GIB - 1
    world.settle()
    last = world.of("b").last
    assert last is not None
    assert last.cause is Cause.HOST_MEMORY
    assert not world.did(Probe)


def test_without_a_stall_rule_stalls_end_nobody() -> None:
    world = World(worker(), host=HostPlan(pressure=None))
    world.settle()
    world.host = {"psi_full_avg10": 99.0, "swap_total_bytes": 8 * GIB}
    world.pass_s(60.0)
    assert world.phase() is Phase.READY
    assert StallRule() == StallRule(full=0.4, for_s=10.0)


def test_an_emergency_never_gives_a_stop_under_way_more_time() -> None:
    world = World(worker(stop_timeout_s=1.0))
    world.settle()
    world.tree().obeys = False
    world.settle(world.asks("stop"))
    world.available = GIB + 1
    world.turn()
    world.pass_s(1.1)
    assert world.did(Kill)
