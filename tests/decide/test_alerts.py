"""Alerts: what each reading comes to, and when one is pending, fires, is told again and is resolved."""

import pytest
from msgspec.structs import replace

from decide.world import GIB, GPU_A, GPU_B, MIB, World, worker
from supervisor.decide.alert_readings import READ, WHOLE, View
from supervisor.decide.alert_readings import World as Readable
from supervisor.decide.alert_readings import world_of as readable
from supervisor.decide.alert_verdict import in_words, judge_of
from supervisor.decide.alerts import MOST_ACTIVE, statuses
from supervisor.decide.resume import after_reboot
from supervisor.model.action import Alert
from supervisor.model.alert import AlertStatus, Severity
from supervisor.model.condition import READINGS, Both, Comparison, Condition, Either, Flag, Not, Sign
from supervisor.model.memory import AlertsMemory, Memory
from supervisor.model.news import Shutdown, XidSeen
from supervisor.model.phase import GpuState, Pressure, Throttle
from supervisor.model.plan import AlertRule, AlertsPlan, GpuChoice, MemoryCaps, Plan
from supervisor.model.reading import Missing
from supervisor.model.report import Report
from supervisor.model.trend import Floor, Growth, Trend

BIG = Comparison("worker.memory", ">", 90.0, "percent")
FULL = Comparison("gpu.used", ">", 95.0, "percent")
LOW = Comparison("host.available", "<", float(3 * GIB), "bytes")
HELD = Flag("worker.held")


def rule(
    name: str,
    condition: Condition,
    for_s: float = 0.0,
    *,
    severity: Severity = "warning",
    runbook: str | None = None,
) -> AlertRule:
    return AlertRule(name, "as written", condition, for_s, severity, runbook)


def world_of(*rules: AlertRule, repeat_s: float = 14_400.0, gpus: tuple[str, ...] = ()) -> World:
    chat = worker(memory=MemoryCaps(cap_bytes=GIB), gpus=GpuChoice("any"))
    world = World(chat, gpus=gpus, alerts=AlertsPlan(rules, (), repeat_s))
    world.settle()
    return world


def told(world: World) -> list[tuple[str, str, str | None]]:
    """Return what the receivers were told in the last call: state, name, subject."""
    return [
        ("again" if one.again else one.alert.state, one.alert.name, one.alert.worker or one.alert.gpu)
        for one in world.did(Alert)
    ]


def seen(world: World) -> Readable:
    return readable(world.plan, world.memory, world.snapshot())


def chat_of(world: World) -> View:
    return View(seen(world), worker=world.of())


def gpu_of(world: World) -> View:
    readable = seen(world)
    return View(readable, gpu=readable.snapshot.gpus[0])


def test_every_reading_that_can_be_written_is_read() -> None:
    assert set(READ) == set(READINGS)
    assert set(WHOLE) == {name for name, topic in READINGS.items() if topic.whole}


def test_every_reading_is_of_its_kind_whatever_is_known() -> None:
    bare = readable(Plan(), Memory("i"), World().snapshot())
    full = world_of(gpus=(GPU_A,))
    full.settle(full.reports(level=Pressure.HIGH))
    for view in (View(bare), chat_of(full), replace(gpu_of(full), worker=full.of())):
        for name, topic in READINGS.items():
            found = READ[name](view)
            if topic.words and isinstance(found, str):
                assert found in topic.words, name
            elif topic.kind == "flag":
                assert isinstance(found, bool | Missing), name
            else:
                assert not isinstance(found, str | bool), name


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        (Comparison("worker.memory", ">", 90.0, "percent"), True),  # 972 MiB of 1 GiB
        (Comparison("worker.memory", ">", 95.0, "percent"), False),
        (Comparison("worker.memory", ">=", 972.0 * MIB, "bytes"), True),
        (Comparison("worker.vram", ">", 1.0, "percent"), False),  # it has no cap
        (Comparison("worker.vram", "==", 0.0, "bytes"), True),
        (Comparison("worker.age", ">=", 20.0, "s"), True),
        (Comparison("worker.age", ">", 20.0, "s"), False),
        (Comparison("worker.phase", "==", "ready", "word"), True),
        (Comparison("worker.phase", "!=", "ready", "word"), False),
        (Comparison("worker.rung", ">", 0.0, "number"), False),
        (Comparison("worker.processes", "==", 1.0, "number"), True),
        (Comparison("worker.report_age", ">", 5.0, "s"), False),  # it uses no guard
        (Comparison("worker.reported", ">=", "normal", "word"), False),
        (Comparison("worker.forecast", "<", 3600.0, "s"), None),  # too early to say
        (Comparison("host.available", "<", float(41 * GIB), "bytes"), True),
        (Comparison("host.used", ">", 37.0, "percent"), True),  # 24 of 64 GiB
        (Comparison("host.used", ">", 38.0, "percent"), False),
        (Comparison("host.psi", ">", 10.0, "percent"), None),
        (Comparison("host.swap_used", ">", 50.0, "percent"), None),
        (Comparison("host.pressure", ">=", "high", "word"), False),
        (Comparison("host.pressure", "<", "critical", "word"), True),
        (Comparison("supervisor.ready", "==", 1.0, "number"), True),
        (Comparison("supervisor.gpus", "<", 1.0, "number"), None),  # none was read yet
        (HELD, False),
        (Not(HELD), True),
    ],
)
def test_a_worker_is_judged_by_what_is_read_of_it(condition: Condition, verdict: bool | None) -> None:  # noqa: FBT001
    world = world_of()
    world.tree().memory_bytes = 972 * MIB
    world.pass_s(20.0)
    assert judge_of(condition)(chat_of(world)) is verdict


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        (Comparison("gpu.used", ">", 1.0, "percent"), True),  # 300 MiB of 24 GiB
        (Comparison("gpu.used", ">", 2.0, "percent"), False),
        (Comparison("gpu.free", "<", float(24 * GIB), "bytes"), True),
        (Comparison("gpu.temperature", ">", 39.0, "celsius"), True),
        (Comparison("gpu.power", ">", 23.0, "percent"), True),  # 70 of 300 W
        (Comparison("gpu.power", ">", 70.0, "w"), False),
        (Comparison("gpu.utilization", ">", 0.0, "percent"), False),
        (Comparison("gpu.state", "==", "ok", "word"), True),
        (Comparison("gpu.pressure", "==", "normal", "word"), True),
        (Comparison("gpu.read_age", ">", 0.0, "s"), False),
        (Flag("gpu.hot"), False),
        (Flag("gpu.quarantined"), False),
        (Comparison("supervisor.gpus", "==", 1.0, "number"), True),
    ],
)
def test_a_gpu_is_judged_by_what_is_read_of_it(condition: Condition, verdict: bool) -> None:  # noqa: FBT001
    assert judge_of(condition)(gpu_of(world_of(gpus=(GPU_A,)))) is verdict


def test_what_a_guard_reports_is_not_resolved_because_the_daemon_is_another() -> None:
    world = world_of(rule("Hot", Comparison("worker.reported", ">=", "high", "word")))
    world.settle(world.reports(level=Pressure.HIGH))
    world.pass_s(2.0)
    assert told(world) == [("firing", "Hot", "chat")]
    world.crash()
    world.pass_s(2.0)
    assert told(world) == []
    world.settle(world.reports(level=Pressure.NORMAL))
    world.pass_s(2.0)
    assert told(world) == [("resolved", "Hot", "chat")]


@pytest.mark.parametrize(
    ("why", "verdict"),
    [
        ((), False),
        ((Throttle.SW_POWER_CAP,), False),  # as under any load
        ((Throttle.SW_POWER_CAP, Throttle.HW_THERMAL), True),
        (Missing("its driver is too old"), None),
    ],
)
def test_a_gpu_is_throttled_by_more_than_its_power_limit(
    why: tuple[Throttle, ...] | Missing,
    verdict: bool | None,  # noqa: FBT001
) -> None:
    view = gpu_of(world_of(gpus=(GPU_A,)))
    assert judge_of(Flag("gpu.throttled"))(replace(view, gpu=replace(view.gpu, throttle=why))) is verdict


def test_an_xid_of_a_gpu_can_be_an_alert() -> None:
    world = world_of(rule("Xid", Comparison("gpu.xids", ">", 0.0, "number")), gpus=(GPU_A,))
    world.pass_s(2.0)
    assert told(world) == []
    world.turn(XidSeen(63, "Row Remapper", "0000:3b:00", 1, world.now_s, gpu=GPU_A))
    world.pass_s(2.0)
    assert told(world) == [("firing", "Xid", GPU_A)]


def test_a_unified_gpu_is_judged_by_the_memory_of_the_machine() -> None:
    world = world_of(gpus=(GPU_A,))
    world.gpus[GPU_A].unified, world.gpus[GPU_A].readable = True, False
    world.gpus[GPU_A].total_bytes, world.available = 64 * GIB, 2 * GIB
    world.settle()
    assert judge_of(FULL)(gpu_of(world)) is True


def test_what_a_stopped_worker_has_not_makes_every_comparison_false() -> None:
    world = world_of()
    world.settle(world.asks("stop"))
    view = chat_of(world)
    assert world.of().life is None
    signs: tuple[Sign, ...] = ("<", ">=", "!=")
    for name in ("worker.age", "worker.report_age", "worker.processes", "worker.forecast"):
        for sign in signs:
            assert judge_of(Comparison(name, sign, 5.0, "s"))(view) is False, name
    assert judge_of(Comparison("worker.memory", "<", 5.0, "bytes"))(view) is False


def test_the_forecast_of_a_leak_is_known_once_there_are_floors_enough() -> None:
    world = world_of()
    floors = tuple(Floor(float(at), 100 * MIB, 100 * MIB) for at in range(16))
    life = world.life()
    rising = Growth(1e6, 9e5, 2e6, 0.0, world.now_s, 512 * MIB, 0)
    soon = Comparison("worker.forecast", "<", 3600.0, "s")

    def judged(trend: Trend) -> bool | None:
        now = replace(world.of(), life=replace(life, memory_trend=trend))
        return judge_of(soon)(replace(chat_of(world), worker=now))

    assert judged(Trend(floors=floors[:15])) is None
    assert judged(Trend(floors=floors)) is False
    assert judged(Trend(floors=floors, growth=rising)) is True
    assert judged(Trend(floors=floors, growth=replace(rising, slope=1e4))) is False  # 14 h


T, F, U = Flag("gpu.quarantined"), Flag("worker.held"), Comparison("host.psi", ">", 5.0, "percent")


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        (Both((T, T)), True),
        (Both((T, F)), False),
        (Both((T, U)), None),
        (Both((U, F)), False),
        (Both((U, U)), None),
        (Either((F, F)), False),
        (Either((F, T)), True),
        (Either((U, T)), True),
        (Either((T, U)), True),
        (Either((U, F)), None),
        (Not(U), None),
        (Not(T), False),
        (Not(F), True),
    ],
)
def test_unknown_goes_through_and_or_and_not_by_kleene(condition: Condition, verdict: bool | None) -> None:  # noqa: FBT001
    world = world_of(gpus=(GPU_A,))
    world.gpus[GPU_A].state = GpuState.LOST
    world.settle()
    view = replace(gpu_of(world), worker=world.of())
    assert [judge_of(one)(view) for one in (T, F, U)] == [True, False, None]
    assert judge_of(condition)(view) is verdict


def test_an_alert_fires_at_once_and_is_resolved_at_once_where_nothing_else_is_asked() -> None:
    world = world_of(rule("Big", BIG, severity="critical", runbook="docs/x.md"))
    assert told(world) == []
    world.tree().memory_bytes = 1000 * MIB
    world.pass_s(2.0)
    assert told(world) == [("firing", "Big", "chat")]
    (fired,) = world.did(Alert)
    assert fired.alert == AlertStatus(
        name="Big",
        severity="critical",
        state="firing",
        summary="worker chat: worker.memory 97.7% (worker.memory > 90%)",
        worker="chat",
        value=97.656,
        threshold=90.0,
        unit="percent",
        since_wall_s=1_800_000_002.0,
        runbook="docs/x.md",
    )
    (notice,) = world.told("alert firing")
    assert (notice.level, notice.worker, notice.incident, notice.outcome) == (
        "error",
        "chat",
        "i-alert-1",
        None,
    )
    assert notice.fields == {
        "alert": "Big",
        "severity": "critical",
        "value": 97.656,
        "threshold": 90.0,
        "unit": "percent",
    }

    world.pass_s(60.0)
    assert told(world) == []
    world.tree().memory_bytes = 100 * MIB
    world.pass_s(2.0)
    assert told(world) == [("resolved", "Big", "chat")]
    (notice,) = world.told("alert resolved")
    assert (notice.level, notice.incident, notice.outcome) == ("info", "i-alert-1", "resolved after 1min 2s")
    (resolved,) = statuses(world.plan, world.memory, world.snapshot())
    assert resolved == world.did(Alert)[0].alert
    assert resolved.resolved_wall_s == 1_800_000_064.0
    assert resolved.value == 9.766


def test_an_alert_is_pending_until_it_has_been_true_for_long_enough() -> None:
    world = world_of(rule("Big", BIG, 10.0))
    world.tree().memory_bytes = 1000 * MIB
    world.pass_s(8.0)
    assert told(world) == []
    (pending,) = statuses(world.plan, world.memory, world.snapshot())
    assert (pending.state, pending.value) == ("pending", 97.656)
    world.tree().memory_bytes = 100 * MIB
    world.pass_s(2.0)
    assert told(world) == []  # nobody was told of it
    assert statuses(world.plan, world.memory, world.snapshot()) == ()
    world.tree().memory_bytes = 1000 * MIB
    world.pass_s(10.0)
    assert told(world) == []
    world.pass_s(2.0)
    assert told(world) == [("firing", "Big", "chat")]


def test_what_is_unknown_neither_fires_nor_resolves() -> None:
    world = world_of(rule("Big", BIG, 4.0))
    world.tree().memory_bytes = 1000 * MIB
    world.pass_s(2.0)
    world.tree().memory_bytes = Missing("EACCES")
    world.pass_s(20.0)
    assert told(world) == []
    (pending,) = statuses(world.plan, world.memory, world.snapshot())
    assert (pending.state, pending.value) == ("pending", None)
    assert pending.summary == "worker chat: worker.memory unknown (EACCES) (worker.memory > 90%)"
    world.tree().memory_bytes = 1000 * MIB
    world.pass_s(2.0)
    assert told(world) == [("firing", "Big", "chat")]
    world.tree().memory_bytes = Missing("EACCES")
    world.pass_s(60.0)
    assert told(world) == []
    world.tree().memory_bytes = 100 * MIB
    world.pass_s(2.0)
    assert told(world) == [("resolved", "Big", "chat")]


def test_an_alert_that_goes_on_is_told_again() -> None:
    world = world_of(rule("Low", LOW), repeat_s=60.0)
    world.available = 3 * GIB - 1
    world.pass_s(2.0)
    assert told(world) == [("firing", "Low", None)]
    world.pass_s(58.0)
    assert told(world) == []
    world.pass_s(2.0)
    assert told(world) == [("again", "Low", None)]
    assert world.told("alert firing") == []  # the log has it already
    world.pass_s(120.0)
    assert told(world) == [("again", "Low", None)] * 2


def test_each_gpu_has_an_alert_of_its_own() -> None:
    world = world_of(rule("Full", FULL), gpus=(GPU_A, GPU_B))
    world.gpus[GPU_B].nobody_bytes = 23 * GIB
    world.pass_s(2.0)
    assert told(world) == [("firing", "Full", GPU_B)]
    assert world.did(Alert)[0].alert.summary == "GPU 1: gpu.used 95.8% (gpu.used > 95%)"
    world.gpus[GPU_A].nobody_bytes = 24 * GIB
    world.gpus[GPU_B].nobody_bytes = 0
    world.pass_s(2.0)
    assert told(world) == [("firing", "Full", GPU_A), ("resolved", "Full", GPU_B)]


def test_an_alert_of_what_is_gone_is_resolved() -> None:
    world = world_of(rule("Full", FULL), rule("Big", BIG), gpus=(GPU_A, GPU_B))
    world.gpus[GPU_A].nobody_bytes = 24 * GIB
    world.tree().memory_bytes = 1000 * MIB
    world.pass_s(2.0)
    assert told(world) == [("firing", "Full", GPU_A), ("firing", "Big", "chat")]
    world.gpus[GPU_A].there = False
    world.pass_s(2.0)
    assert told(world) == [("resolved", "Full", GPU_A)]
    assert world.told("alert resolved")[0].reason == f"GPU {GPU_A}: as written: it is gone"
    world.reload()
    world.pass_s(30.0)
    assert ("resolved", "Big", "chat") in told(world)


def test_without_any_gpu_none_is_known_to_be_gone() -> None:
    world = world_of(rule("Full", FULL), gpus=(GPU_A,))
    world.gpus[GPU_A].nobody_bytes = 24 * GIB
    world.pass_s(2.0)
    world.gpus[GPU_A].there = False  # as it is until a new daemon's first reading
    world.pass_s(20.0)
    assert told(world) == []
    world.gpus[GPU_A].there = True
    world.pass_s(20.0)
    assert told(world) == []


def test_a_rule_that_changes_or_goes_resolves_what_it_has_told() -> None:
    big, full = rule("Big", BIG), rule("Low", LOW)
    world = world_of(big, full)
    world.tree().memory_bytes, world.available = 1000 * MIB, 3 * GIB - 1
    world.pass_s(2.0)
    assert told(world) == [("firing", "Big", "chat"), ("firing", "Low", None)]
    higher = rule("Big", Comparison("worker.memory", ">", 99.0, "percent"))
    world.plan = replace(world.plan, alerts=AlertsPlan((higher, full)))
    world.turn()
    assert told(world) == [("resolved", "Big", "chat")]
    assert world.told("alert resolved")[0].reason == "worker chat: as written: its rule was changed"
    world.plan = replace(world.plan, alerts=AlertsPlan())
    world.turn()
    assert told(world) == [("resolved", "Low", None)]
    assert world.told("alert resolved")[0].reason == "the machine: as written: its rule was removed"
    world.pass_s(20.0)
    assert told(world) == []


def test_a_rule_that_is_changed_and_still_true_is_told_anew() -> None:
    world = world_of(rule("Big", BIG))
    world.tree().memory_bytes = 1000 * MIB
    world.pass_s(2.0)
    world.plan = replace(world.plan, alerts=AlertsPlan((rule("Big", BIG, severity="critical"),)))
    world.turn()
    assert told(world) == [("resolved", "Big", "chat"), ("firing", "Big", "chat")]


def test_the_next_daemon_tells_nothing_as_new() -> None:
    world = world_of(rule("Big", BIG), rule("Low", LOW, 60.0))
    world.tree().memory_bytes, world.available = 1000 * MIB, 3 * GIB - 1
    world.pass_s(2.0)
    assert told(world) == [("firing", "Big", "chat")]
    world.pass_s(50.0)
    world.crash()
    world.settle()
    world.pass_s(8.0)
    assert told(world) == []
    world.pass_s(2.0)
    assert told(world) == [("firing", "Low", None)]  # what was pending goes on as well
    world.tree().memory_bytes = 100 * MIB
    world.pass_s(2.0)
    assert told(world) == [("resolved", "Big", "chat")]


def test_after_the_machine_s_restart_only_what_fired_is_remembered() -> None:
    world = world_of(rule("Big", BIG), rule("Low", LOW, 60.0))
    world.tree().memory_bytes, world.available = 1000 * MIB, 3 * GIB - 1
    world.pass_s(2.0)
    world.memory = after_reboot(world.memory)
    world.trees, world.sightings, world.now_s, world.look_s = {}, {}, 30.0, 0.0
    assert [one.rule for one in world.memory.alerts.active.values()] == ["Big"]
    world.settle()
    world.pass_s(2.0)
    assert told(world) == [("resolved", "Big", "chat")]


def test_a_rule_of_another_version_that_is_remembered_breaks_nothing() -> None:
    world = world_of(rule("Big", BIG))
    world.tree().memory_bytes = 1000 * MIB
    world.pass_s(2.0)
    odd = rule("Big", Comparison("worker.mood", ">", 5.0, "number"))
    world.memory = replace(world.memory, alerts=replace(world.memory.alerts, rules=(odd,)))
    world.turn()
    assert told(world) == [("resolved", "Big", "chat"), ("firing", "Big", "chat")]


def test_a_daemon_that_ends_tells_nothing_of_the_workers_that_it_stops() -> None:
    world = world_of(rule("Down", Not(Comparison("worker.phase", "==", "ready", "word"))))
    world.pass_s(2.0)
    assert told(world) == [("resolved", "Down", "chat")]
    world.tree().obeys = False
    world.settle(Shutdown())
    world.pass_s(10.0)
    assert world.phase() == "stopping"
    assert told(world) == []


def test_what_was_resolved_long_ago_is_not_shown() -> None:
    world = world_of(rule("Big", BIG))
    world.tree().memory_bytes = 1000 * MIB
    world.pass_s(2.0)
    world.tree().memory_bytes = 100 * MIB
    world.pass_s(2.0)
    world.wall_s += 86_300
    assert len(statuses(world.plan, world.memory, world.snapshot())) == 1
    world.wall_s += 200
    assert statuses(world.plan, world.memory, world.snapshot()) == ()


def test_between_two_looks_nothing_is_judged() -> None:
    world = world_of(rule("Low", LOW))
    world.available = 3 * GIB - 1
    world.now_s += 0.5
    world.turn(look=False)
    assert told(world) == []
    world.pass_s(1.5)
    assert told(world) == [("firing", "Low", None)]


def test_there_is_a_bound_to_the_alerts_that_are_followed() -> None:
    world = World(
        *(worker(f"w{at}") for at in range(MOST_ACTIVE + 3)),
        alerts=AlertsPlan(
            (rule("All", Comparison("host.available", ">", 0.0, "bytes")), rule("Each", Not(HELD)))
        ),
    )
    world.turn()
    assert len(world.memory.alerts.active) == MOST_ACTIVE
    (notice,) = world.told("too many alerts")
    assert notice.reason == "4096 alerts are followed, and 4 more are not"
    world.turn()
    assert world.told("too many alerts") == []


def test_the_words_of_an_alert_name_what_was_read() -> None:
    world = world_of(gpus=(GPU_A,))
    both = Both((FULL, Not(Flag("gpu.hot")), Comparison("gpu.power", ">", 100.0, "w")))
    assert in_words(both, gpu_of(world)) == (
        "gpu.used 1.2%, gpu.hot no, gpu.power 70W (gpu.used > 95% and not gpu.hot and gpu.power > 100W)"
    )
    soon = Comparison("worker.report_age", ">", 90.0, "s")
    assert in_words(soon, chat_of(world)) == "worker.report_age none (worker.report_age > 1min 30s)"


def test_the_report_of_a_guard_is_judged() -> None:
    world = world_of()
    world.settle(world.reports(level=Pressure.CRITICAL))
    world.pass_s(30.0)
    assert world.life().report == Report(v=1, level=Pressure.CRITICAL)
    assert judge_of(Comparison("worker.reported", ">=", "high", "word"))(chat_of(world)) is True
    assert judge_of(Comparison("worker.report_age", ">", 29.0, "s"))(chat_of(world)) is True


def test_failures_are_counted_while_they_count() -> None:
    world = world_of(rule("Loop", Comparison("worker.failures", ">=", 2.0, "number")))
    for _ in range(2):
        world.exits()
        world.pass_s(5.0)
    assert told(world) == [("firing", "Loop", "chat")]
    world.pass_s(600.0)
    assert told(world) == [("resolved", "Loop", "chat")]
    assert world.of().restarts == 2


def test_without_rules_nothing_is_judged_and_nothing_remembered() -> None:
    world = world_of()
    world.pass_s(10.0)
    assert world.memory.alerts == AlertsMemory()
