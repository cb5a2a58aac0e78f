"""What a worker reports: what it counts as, and what people are told of it."""

from typing import Any

import pytest

from decide.world import GPU_A, World, replicas, worker
from supervisor.model.action import Notice, Probe, Signal
from supervisor.model.phase import Cause, Phase, Pressure
from supervisor.model.plan import DrainRule, GuardTarget, NotifyTarget
from supervisor.model.report import BatchesReport, MemoryReport, Progress

FULL = MemoryReport(oom_events=1, recoveries=1, usage_percent=91.4, total_gb=24.0, allocated_gb=20.25)


def running(**fields: Any) -> World:  # noqa: ANN401 - any field of a plan
    world = World(worker(**fields), gpus=[GPU_A])
    world.settle()
    return world


def told(world: World) -> list[tuple[str, str, str]]:
    """Return the notices of the last call that are about reports."""
    about = ("worker memory", "worker ran out", "worker recovered", "worker poisoned", "job ")
    found = [one for one in world.actions if isinstance(one, Notice)]
    return [(one.level, one.event, one.reason) for one in found if one.event.startswith(about)]


def test_ready_in_a_report_counts_as_ready_1() -> None:
    world = running(ready=NotifyTarget())
    world.turn(world.reports(level=Pressure.NORMAL))
    assert world.phase() is Phase.STARTING
    world.turn(world.reports(ready=True))
    assert world.phase() is Phase.READY
    assert world.told("worker ready")[0].reason == "its guard reports that it is ready"


def test_a_beat_in_a_report_counts_as_a_heartbeat_and_a_report_without_one_does_not() -> None:
    world = running(heartbeat_s=10.0)
    for _ in range(5):
        world.pass_s(9.0, world.reports(beat=True))
    assert world.phase() is Phase.READY
    world.pass_s(0.5, world.reports())
    world.pass_s(0.7, world.reports())
    assert [one.cause for one in world.told("worker stopping")] == [Cause.HEARTBEAT]


def test_a_beat_counts_from_when_it_was_heard() -> None:
    world = running(heartbeat_s=10.0)
    report = world.reports(beat=True)
    world.pass_s(9.0)
    world.turn(report)
    world.pass_s(0.9)
    assert world.phase() is Phase.READY
    world.pass_s(0.2)
    assert [one.cause for one in world.told("worker stopping")] == [Cause.HEARTBEAT]


def test_a_report_of_an_earlier_life_is_not_heard() -> None:
    world = running()
    report = world.reports(level=Pressure.EXTREME)
    world.exits()
    world.pass_s(5.0)
    world.turn(report)
    assert world.life().report is None


def test_a_level_is_told_when_it_changes() -> None:
    world = running()
    world.turn(world.reports(level=Pressure.NORMAL, memory=MemoryReport()))
    assert told(world) == []
    memory = MemoryReport(usage_percent=91.4, total_gb=24.0)
    world.turn(world.reports(level=Pressure.CRITICAL, memory=memory))
    assert told(world) == [("warning", "worker memory critical", "91% of 24.0GiB is used")]
    world.pass_s(20.0, *[world.reports(level=Pressure.CRITICAL, memory=memory)] * 2)
    assert told(world) == []
    world.turn(world.reports(level=Pressure.NORMAL))
    assert told(world) == [("info", "worker memory normal", "it does not report how full its memory is")]


def test_out_of_memory_is_told_with_its_numbers_and_is_a_closed_incident() -> None:
    world = running()
    world.turn(world.reports(memory=FULL))
    reason = "out of memory 1 times; 91% of 24.0GiB is used, 20.2GiB by it"
    assert told(world) == [("warning", "worker ran out of memory and goes on", reason)]
    [notice] = world.told("worker ran out of memory and goes on")
    assert notice.incident == f"{world.life().run}-oom-{int(world.now_s * 1000)}"
    assert notice.outcome == "it goes on"
    assert notice.fields == {"oom_events": 1, "recoveries": 1}
    assert world.of().incident is None


def test_what_changes_again_soon_is_told_together_later_and_without_another_report() -> None:
    world = running()
    world.turn(world.reports(memory=MemoryReport(oom_events=1)))
    assert len(told(world)) == 1
    world.turn(world.reports(memory=MemoryReport(oom_events=2), level=Pressure.HIGH))
    world.pass_s(0.5, world.reports(memory=MemoryReport(oom_events=4), level=Pressure.EXTREME))
    assert told(world) == []
    world.pass_s(8.0)
    assert [(level, event) for level, event, _ in told(world)] == [
        ("warning", "worker ran out of memory and goes on"),
        ("warning", "worker memory extreme"),
    ]
    assert told(world)[0][2].startswith("out of memory 3 times;")


def test_recoveries_alone_are_told_and_those_of_batches_count_where_there_are_no_others() -> None:
    world = running()
    world.turn(world.reports(batches=BatchesReport(recoveries=3)))
    assert told(world) == [("info", "worker recovered", "3 times; it does not report how full its memory is")]


def test_counts_that_begin_anew_are_not_told_and_count_from_there() -> None:
    world = running()
    world.turn(world.reports(memory=MemoryReport(oom_events=5)))
    world.pass_s(10.0)
    world.turn(world.reports(memory=MemoryReport()))
    assert told(world) == []
    world.turn(world.reports(memory=MemoryReport(oom_events=1)))
    assert [one[2].partition(";")[0] for one in told(world)] == ["out of memory 1 times"]


@pytest.mark.parametrize(("state", "level"), [("completed", "info"), ("failed", "warning")])
def test_the_end_of_a_job_is_told_once(state: Any, level: str) -> None:  # noqa: ANN401 - a literal
    world = running()
    world.turn(world.reports(progress=Progress(job="night", done=3, total=10)))
    assert told(world) == []
    done = Progress(job="night", state=state, done=10, total=10)
    world.turn(world.reports(progress=done))
    assert told(world) == [(level, f"job {state}", "night, 10 of 10 items")]
    world.pass_s(20.0, world.reports(progress=done))
    assert told(world) == []
    world.turn(world.reports(progress=Progress(state=state, done=1)))
    assert told(world) == []


def test_what_was_told_is_not_told_again_by_the_next_daemon() -> None:
    world = running()
    world.turn(world.reports(memory=FULL, level=Pressure.HIGH))
    assert len(told(world)) == 2
    world.crash()
    world.settle()
    assert world.life().report is None
    world.turn(world.reports(memory=FULL, level=Pressure.HIGH))
    assert told(world) == []


def test_a_poisoned_worker_that_ends_itself_is_restarted_for_a_gpu_fault() -> None:
    world = running()
    world.turn(world.reports(poisoned="CUDA error: device-side assert triggered"))
    assert told(world) == [("error", "worker poisoned", "CUDA error: device-side assert triggered")]
    world.exits(code=79)
    world.settle()
    [exited] = world.told("worker exited")
    assert exited.cause is Cause.GPU_FAULT
    assert "CUDA error: device-side assert triggered" in exited.reason
    assert world.told("gpu quarantined") == []
    world.pass_s(5.0)
    assert world.phase() is Phase.READY
    last = world.of().last
    assert last is not None
    assert last.cause is Cause.GPU_FAULT
    assert world.of().backoff == 1


def test_status_79_alone_and_poison_alone_are_no_gpu_fault() -> None:
    for poisoned, code in ((None, 79), ("x", 1)):
        world = running()
        world.turn(world.reports(poisoned=poisoned))
        world.exits(code=code)
        world.settle()
        assert world.told("worker exited")[0].cause is Cause.EXIT


def test_a_replica_that_was_poisoned_keeps_no_sibling_from_its_restart() -> None:
    world = World(*replicas("chat", 2, max_age_s=100.0, max_age_jitter=0.0), gpus=[GPU_A])
    world.settle()
    world.turn(world.reports("chat-1", poisoned="x"))
    world.launch_fails = "no"
    world.exits("chat-1", code=79)
    world.pass_s(101.0)
    assert [one.worker for one in world.log if isinstance(one, Signal)] == ["chat-2"]


def test_a_guard_is_waited_for_until_it_says_that_it_is_drained() -> None:
    world = running(drain=DrainRule(GuardTarget(), timeout_s=30.0))
    world.turn(world.reports())
    world.settle(world.asks("stop", reason="upgrade"))
    world.pass_s(20.0, world.reports(beat=True))
    assert world.phase() is Phase.DRAINING
    assert not [one for one in world.log if isinstance(one, Signal | Probe)]
    world.turn(world.reports(drained=True))
    assert [one.reason for one in world.did(Signal)] == ["upgrade"]


def test_a_guard_that_says_nothing_is_signalled_at_its_drain_timeout() -> None:
    world = running(drain=DrainRule(GuardTarget(), timeout_s=30.0))
    world.settle(world.asks("stop", reason="upgrade"))
    world.pass_s(29.9)
    assert not world.did(Signal)
    world.pass_s(0.2)
    assert world.did(Signal)[0].reason == "upgrade; not idle within the drain timeout"


def test_a_daemon_that_is_killed_while_a_guard_drains_is_succeeded_by_one_that_waits_on() -> None:
    world = running(drain=DrainRule(GuardTarget(), timeout_s=30.0))
    world.turn(world.reports())
    world.settle(world.asks("stop"))
    world.crash()
    world.settle()
    assert world.phase() is Phase.DRAINING
    world.settle(world.reports(drained=True))
    assert world.phase() is Phase.STOPPED
