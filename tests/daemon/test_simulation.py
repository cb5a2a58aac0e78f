"""What would have been done over a trace, in a world that follows it."""

from collections.abc import Callable
from typing import Any

from decide.world import worker
from supervisor.daemon.simulation import Outcome, simulate
from supervisor.daemon.trace import read_trace
from supervisor.model.plan import GpuChoice, HostPlan, HttpTarget, MemoryCaps, NotifyTarget, Plan

MIB = 1 << 20
GIB = 1 << 30


def over(memory: Callable[[int], int], plan: Plan, seconds: int, step_s: int = 10) -> Outcome:
    rows = [f"{at},chat,{memory(at) * MIB}\n" for at in range(5000, 5000 + seconds, step_s)]
    return simulate(plan, read_trace(["time_s,worker,memory_bytes\n", *rows]))


def plan_of(**fields: Any) -> Plan:  # noqa: ANN401 - any field of a plan
    one = worker(memory=MemoryCaps(cap_bytes=GIB), **fields)
    return Plan(workers={"chat": one, "other": worker("other")})


def rising(at: int) -> int:
    """Rise by 300 MiB an hour from 100 MiB on."""
    return 100 + (at - 5000) * 300 // 3600


def test_a_leak_is_restarted_at_its_cap_and_grows_on_from_its_baseline() -> None:
    outcome = over(rising, plan_of(), 8 * 3600)
    assert [(one.worker, one.cause) for one in outcome.restarts] == [("chat", "memory-cap")] * 2
    first, second = (one.time_s - 5000 for one in outcome.restarts)
    assert 924 / 300 * 3600 < first < 924 / 300 * 3600 + 60
    assert abs(second - 2 * first) < 60
    assert outcome.restarts[0].memory_bytes == 1026 * MIB
    assert (outcome.from_s, outcome.to_s, outcome.looks) == (5000.0, 33790.0, 2880)
    chat = outcome.workers[0]
    assert (chat.name, chat.restarts, chat.causes, chat.phase) == ("chat", 2, {"memory-cap": 2}, "ready")
    assert chat.peak_memory_bytes == 1027 * MIB
    assert chat.traced_peak_memory_bytes == 2499 * MIB


def test_a_forecast_restarts_it_before() -> None:
    outcome = over(rising, plan_of(leak_forecast_s=1800.0), 3 * 3600)
    assert [one.cause for one in outcome.restarts] == ["leak"]
    assert [one.event for one in outcome.notices] == ["leak found"]
    assert abs(outcome.restarts[0].time_s - 5000 - (924 / 300 * 3600 - 1800)) < 120
    assert outcome.workers[0].peak_memory_bytes < 900 * MIB


def test_age_restarts_come_between_coarse_readings() -> None:
    outcome = over(lambda _: 100, plan_of(max_age_s=1000.0, max_age_jitter=0.0), 3500, step_s=300)
    assert [(one.cause, one.time_s) for one in outcome.restarts] == [
        ("age", 6000.0),
        ("age", 7000.0),
        ("age", 8000.0),
    ]


def test_what_a_trace_cannot_tell_is_taken_as_good() -> None:
    plan = plan_of(ready=NotifyTarget(), heartbeat_s=5.0, gpus=GpuChoice("listed", (3,)), after=("other",))
    outcome = over(lambda _: 100, plan, 600)
    assert (outcome.restarts, outcome.workers[0].phase) == ((), "ready")
    probed = over(lambda _: 100, plan_of(ready=HttpTarget("http://127.0.0.1:1/")), 600)
    assert (probed.restarts, probed.workers[0].phase) == ((), "ready")


def test_what_needs_more_than_its_cap_from_the_start_is_held_and_said_so() -> None:
    outcome = over(lambda _: 2000, plan_of(), 3600)
    assert outcome.workers[0].phase == "held"
    assert "raise memory.cap" in (outcome.workers[0].held or "")
    assert [one.event for one in outcome.notices] == ["worker held"]


def test_a_host_without_memory_ends_a_victim_and_has_its_memory_back() -> None:
    rows = [f"{at},chat,{(at * 10 + 100) * MIB},{(9000 - at * 10) * MIB}\n" for at in range(0, 890, 10)]
    head = "time_s,worker,memory_bytes,host_available_bytes\n"
    plan = Plan(workers={"chat": worker()}, host=HostPlan(pressure=None))
    outcome = simulate(plan, read_trace([head, *rows]))
    assert {one.cause for one in outcome.restarts} == {"host-memory"}
    assert len(outcome.restarts) == 1
