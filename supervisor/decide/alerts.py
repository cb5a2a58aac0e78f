"""Which alerts are pending, fire and are resolved: each rule for each subject, once a look."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from supervisor.decide.alert_readings import View, World, world_of
from supervisor.decide.alert_verdict import in_words, judge_of, measured
from supervisor.model.action import Action, Alert, Field, Level, Notice
from supervisor.model.alert import AlertState, AlertStatus
from supervisor.model.condition import Subject, subject_of
from supervisor.model.memory import AlertMemory, AlertsMemory, Memory
from supervisor.model.plan import AlertRule, Plan
from supervisor.model.quantity import format_span
from supervisor.model.snapshot import Snapshot

# As many as there can be workers. A rule that is true of each is wrong, or says one thing of all.
MOST_ACTIVE: Final = 4096
MOST_RESOLVED: Final = 50
RESOLVED_SHOWN_S: Final = 86_400.0
_LEVELS: Final[Mapping[str, Level]] = {"info": "info", "warning": "warning", "critical": "error"}


def judge_alerts(plan: Plan, memory: Memory, snapshot: Snapshot) -> tuple[AlertsMemory, Sequence[Action]]:
    """Return what to remember of alerts and whom to tell what, given the memory that this turn came to.

    Between two looks nothing is read anew of most, and nothing is judged.
    """
    past, rules = memory.alerts, plan.alerts.rules
    if (not rules and not past.rules) or memory.stopping:  # a daemon that ends takes its workers down
        return past, ()
    if past.rules == rules and snapshot.taken_s < past.judged_s + plan.poll_interval_s:
        return past, ()
    judging = _Judging(world_of(plan, memory, snapshot))
    judging.drop_rules()
    for rule in rules:
        judging.judge(rule)
    judging.drop_subjects()
    return judging.conclude(), judging.actions


def statuses(plan: Plan, memory: Memory, snapshot: Snapshot) -> tuple[AlertStatus, ...]:
    """Return every alert as it is shown: what fires or is pending, oldest first, then the last resolved."""
    alerts = memory.alerts
    rules = {rule.name: rule for rule in alerts.rules}
    views = _Views(world_of(plan, memory, snapshot))
    active = sorted(alerts.active.values(), key=lambda one: one.since_s)
    shown = [_status(rules[one.rule], one, views.of(one)) for one in active if one.rule in rules]
    lately = [
        one for one in alerts.resolved if snapshot.wall_s - (one.resolved_wall_s or 0.0) < RESOLVED_SHOWN_S
    ]
    return (*shown, *reversed(lately))


class _Views:
    """The subjects of a turn."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._samples = {gpu.uuid: gpu for gpu in world.snapshot.gpus}
        self._all: dict[Subject, dict[str, View]] = {}

    def all(self, subject: Subject) -> Mapping[str, View]:
        """Return every subject of a kind, by its name."""
        if subject not in self._all:
            self._all[subject] = self._look(subject)
        return self._all[subject]

    def _look(self, subject: Subject) -> dict[str, View]:
        if subject == "gpu":
            return {uuid: View(self.world, gpu=gpu) for uuid, gpu in self._samples.items()}
        if subject == "worker":
            return {name: View(self.world, worker=one) for name, one in self.world.memory.workers.items()}
        return {"": View(self.world)}

    def of(self, alert: AlertMemory) -> View | None:
        """Return the subject of an alert; None where it is not there, or not seen yet."""
        if alert.gpu is not None:
            sample = self._samples.get(alert.gpu)
            return None if sample is None else View(self.world, gpu=sample)
        if alert.worker is not None:
            worker = self.world.memory.workers.get(alert.worker)
            return None if worker is None else View(self.world, worker=worker)
        return View(self.world)


class _Judging:
    """The alerts of one turn, written down until it is over."""

    def __init__(self, world: World) -> None:
        self.actions: list[Action] = []
        self._world = world
        self._views = _Views(world)
        self._past = world.memory.alerts
        self._active = dict(self._past.active)
        self._known = {one.rule for one in self._past.active.values()}
        self._resolved = list(self._past.resolved)
        self._begun = self._past.begun
        self._left_out = 0

    @property
    def _now_s(self) -> float:
        return self._world.snapshot.taken_s

    def drop_rules(self) -> None:
        """Resolve what was told by a rule that is another now, or gone."""
        old, now = self._past.rules, self._world.plan.alerts.rules
        if old == now:
            return
        kept = {rule.name: rule for rule in now}
        was = {rule.name: rule for rule in old}
        for key, one in tuple(self._active.items()):
            rule = was.get(one.rule)
            if rule is None or kept.get(one.rule) != rule:
                # It is not read any more by the old rule: another version may have known other readings.
                why = "its rule was changed" if one.rule in kept else "its rule was removed"
                self._end(key, rule, None, why)

    def drop_subjects(self) -> None:
        """Resolve what is about a subject that is gone. Without any GPU, none is known to be gone."""
        rules = {rule.name: rule for rule in self._world.plan.alerts.rules}
        for key, one in tuple(self._active.items()):
            unseen = one.gpu is not None and not self._world.snapshot.gpus
            if not unseen and self._views.of(one) is None:
                self._end(key, rules.get(one.rule), None, "it is gone")

    def judge(self, rule: AlertRule) -> None:
        """Judge one rule for each of its subjects."""
        judge, subject = judge_of(rule.condition), subject_of(rule.condition)
        quiet = rule.name not in self._known
        for name, view in self._views.all(subject).items():
            verdict = judge(view)
            if quiet and not verdict:
                continue  # as nearly always
            key = f"{rule.name}/{subject}/{name}"
            held = self._active.get(key)
            if verdict is False:
                if held is not None:
                    self._end(key, rule, view)
            elif held is not None:
                self._go_on(key, rule, held, holds=verdict is True)
            elif verdict and self._has_room():
                self._go_on(key, rule, self._begun_now(rule, subject, name), holds=True)

    def _has_room(self) -> bool:
        if len(self._active) < MOST_ACTIVE:
            return True
        self._left_out += 1
        return False

    def _begun_now(self, rule: AlertRule, subject: Subject, name: str) -> AlertMemory:
        self._begun += 1
        return AlertMemory(
            rule.name,
            self._begun,
            self._now_s,
            self._world.snapshot.wall_s,
            worker=name if subject == "worker" else None,
            gpu=name if subject == "gpu" else None,
        )

    def _go_on(self, key: str, rule: AlertRule, held: AlertMemory, *, holds: bool) -> None:
        """Fire what has held for long enough, and tell again of what fires; what is unknown never fires."""
        self._active[key] = held
        if held.told_s is None:
            if not holds or self._now_s - held.since_s < rule.for_s:
                return
        elif self._now_s - held.told_s < self._world.plan.alerts.repeat_s:
            return
        told = self._active[key] = replace(held, told_s=self._now_s)
        status = _status(rule, told, self._views.of(told))
        self.actions.append(Alert(status, status.summary, again=held.told_s is not None))
        if held.told_s is None:
            self._tell("alert firing", _LEVELS[rule.severity], held, status)

    def _end(self, key: str, rule: AlertRule | None, view: View | None, why: str = "") -> None:
        ended = self._active.pop(key)
        if rule is None or ended.told_s is None:
            return  # nobody was told of it
        status = _status(rule, ended, view)
        summary = f"{status.summary}: {why}" if why else status.summary
        status = replace(
            status, state="resolved", summary=summary, resolved_wall_s=self._world.snapshot.wall_s
        )
        self._resolved = [*self._resolved, status][-MOST_RESOLVED:]
        self.actions.append(Alert(status, summary))
        self._tell("alert resolved", "info", ended, status)

    def _tell(self, event: str, level: Level, alert: AlertMemory, status: AlertStatus) -> None:
        fields: dict[str, Field] = {"alert": status.name, "severity": status.severity}
        if status.threshold is not None:
            fields |= {"value": status.value, "threshold": status.threshold, "unit": status.unit}
        lasted = format_span(round(self._now_s - alert.since_s))
        self.actions.append(
            Notice(
                level,
                event,
                status.summary,
                worker=alert.worker,
                gpu=alert.gpu,
                incident=f"{self._world.memory.instance}-alert-{alert.number}",
                outcome=f"resolved after {lasted}" if status.state == "resolved" else None,
                fields=fields,
            )
        )

    def conclude(self) -> AlertsMemory:
        """Return what to remember."""
        if self._left_out and not self._past.full:
            text = f"{MOST_ACTIVE} alerts are followed, and {self._left_out} more are not"
            self.actions.append(Notice("warning", "too many alerts", text))
        rules = self._world.plan.alerts.rules
        full = self._left_out > 0
        return AlertsMemory(rules, self._active, tuple(self._resolved), self._begun, self._now_s, full)


def _status(rule: AlertRule, alert: AlertMemory, view: View | None) -> AlertStatus:
    """Put one alert as it is shown, with what is read now."""
    found = None if view is None else measured(rule.condition, view)
    whose = f"worker {alert.worker}" if alert.worker else f"GPU {alert.gpu}" if alert.gpu else "the machine"
    if view is not None and alert.gpu:
        whose = f"GPU {view.gpu.index}"
    state: AlertState = "pending" if alert.told_s is None else "firing"
    said = rule.when.strip() if view is None else in_words(rule.condition, view)
    return AlertStatus(
        name=rule.name,
        severity=rule.severity,
        state=state,
        summary=f"{whose}: {said}",
        worker=alert.worker,
        gpu=alert.gpu,
        value=None if found is None else found[1],
        threshold=None if found is None or isinstance(found[0].value, str) else found[0].value,
        unit=None if found is None else found[0].unit,
        since_wall_s=alert.since_wall_s,
        runbook=rule.runbook,
    )
