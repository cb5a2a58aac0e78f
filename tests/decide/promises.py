"""What holds in every turn of every world, whatever happens in it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from supervisor.decide.lifecycle import GOING, LIVING, MOVING_MEMORY
from supervisor.decide.turn import decide
from supervisor.model.action import Advise, Alert, Kill, Launch, Notice, Probe, Signal
from supervisor.model.fit import GPU_RESERVE_BYTES
from supervisor.model.memory import After, Decision, Life, Memory, Stop, WorkerMemory
from supervisor.model.news import Asked, Exited, News
from supervisor.model.phase import Cause, GpuState, Phase
from supervisor.model.plan import Plan, WorkerPlan
from supervisor.model.reading import Missing
from supervisor.model.snapshot import Snapshot
from supervisor.model.verdict import Death

# What can wait: nobody takes a second replica down for these.
SOFT = {
    Cause.AGE,
    Cause.LADDER,
    Cause.RELOAD,
    Cause.OPERATOR,
    Cause.MEMORY_CAP,
    Cause.VRAM_CAP,
    Cause.GPU_MEMORY,
}
ACCIDENTS = {
    *(Cause.EXIT, Cause.CRASH, Cause.GPU_FAULT),
    *(Cause.HOST_OOM, Cause.HOST_OOM_KILL, Cause.VRAM_OOM),
}


class Turn(msgspec.Struct, frozen=True):
    """What `decide` takes."""

    plan: Plan
    memory: Memory
    snapshot: Snapshot
    news: tuple[News, ...]


@dataclass
class Readings:
    """What was read of one life against its memory cap, kept apart from what `decide` keeps."""

    over: list[bool] = field(default_factory=list[bool])
    read_s: float = 0.0


@dataclass
class Promises:
    """Checks each turn; remembers what it needs of those before."""

    deep_every: int = 0  # turns: decides again, from JSON
    turns: int = 0
    closed: set[str] = field(default_factory=set[str])
    runs: set[str] = field(default_factory=set[str])
    down: set[str] = field(default_factory=set[str])  # by our hand
    readings: dict[str, Readings] = field(default_factory=dict[str, Readings])
    not_before: dict[str, float] = field(default_factory=dict[str, float])
    starved: dict[str, Life] = field(default_factory=dict[str, Life])  # out of memory, by worker
    stopping: bool = False
    fresh: set[str] = field(default_factory=set[str])  # runs that were read in this turn
    alerts: set[tuple[str, str | None, str | None]] = field(
        default_factory=set[tuple[str, str | None, str | None]]
    )  # that fire, by what the receivers were told

    def restarted(self) -> None:
        """Forget what a new daemon does not know: readings are taken anew."""
        self.readings.clear()
        self.stopping = False

    def check(
        self, plan: Plan, before: Memory, snapshot: Snapshot, news: Sequence[News], decision: Decision
    ) -> None:
        """Hold every promise against one turn."""
        turn = Turn(plan, before, snapshot, tuple(news))
        self.stopping = self.stopping or decision.memory.stopping
        if any(isinstance(one, Asked) for one in news):
            self.not_before.clear()  # an operator need not wait
            self.starved.clear()  # and may reset the ladder
        for gone in self.not_before.keys() - decision.memory.workers.keys():
            del self.not_before[gone]  # one that comes back under its name is another worker
        self._is_deterministic(turn, decision)
        self._has_reasons(decision)
        self._closes_once(decision)
        self._sleeps(turn, decision)
        self._is_whole(decision)
        self._reads(turn)
        self._advises(turn, decision)
        self._alerts(decision)
        self._starves(turn)
        for action in decision.actions:
            if isinstance(action, Launch):
                assert "auto" not in action.settings.values(), (
                    f"launched with what was to be chosen: {action}"
                )
                self._fits(turn, action, decision)
                self._has_gone_down(action)
                self._may_launch(turn, decision, action)
        for name, after in decision.memory.workers.items():
            self._worker(turn, decision, before.workers.get(name), after)
        self._keeps_replicas(turn, decision)

    def _is_deterministic(self, turn: Turn, decision: Decision) -> None:
        self.turns += 1
        if not self.deep_every or self.turns % self.deep_every:
            return
        again = msgspec.json.decode(msgspec.json.encode(turn), type=Turn)
        assert decide(again.plan, again.memory, again.snapshot, again.news) == decision
        assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision) == decision

    def _has_reasons(self, decision: Decision) -> None:
        for action in decision.actions:
            assert action.reason, action

    def _closes_once(self, decision: Decision) -> None:
        for action in decision.actions:
            if not isinstance(action, Notice) or action.incident is None:
                continue
            assert action.incident not in self.closed, f"told of a closed incident: {action}"
            if action.outcome is not None:
                self.closed.add(action.incident)
        for one in decision.memory.workers.values():
            assert one.incident is None or one.incident not in self.closed, one
            idle = one.phase in {Phase.READY, Phase.STOPPED, Phase.HELD}
            assert not idle or one.incident is None, f"an incident stays open: {one}"

    def _advises(self, turn: Turn, decision: Decision) -> None:
        for action in decision.actions:
            if isinstance(action, Advise):
                after = decision.memory.workers[action.worker].life
                before = turn.memory.workers[action.worker].life
                assert before is not None, "told before it could report"
                assert after is not None
                assert after.run == before.run == action.run
                assert after.report is not None, "told without having reported"
                assert before.words != action.words == after.words, "told what it knows"

    def _alerts(self, decision: Decision) -> None:
        for action in decision.actions:
            if not isinstance(action, Alert):
                continue
            alert = action.alert
            key = (alert.name, alert.worker, alert.gpu)
            known = key in self.alerts
            assert known is (action.again or alert.state == "resolved"), f"told out of turn: {alert}"
            assert alert.since_wall_s > 0
            if alert.state == "firing":
                self.alerts.add(key)
            else:
                assert alert.state == "resolved", alert
                self.alerts.discard(key)
        remembered = decision.memory.alerts.active.values()
        firing = {(one.rule, one.worker, one.gpu) for one in remembered if one.told_s is not None}
        assert firing == self.alerts, "what fires is what was told"

    def _sleeps(self, turn: Turn, decision: Decision) -> None:
        if decision.wake_s is not None and not turn.news:
            assert decision.wake_s > turn.snapshot.taken_s, f"wakes at once: {decision.memory}"

    def _is_whole(self, decision: Decision) -> None:
        for one in decision.memory.workers.values():
            assert (one.life is not None) == (one.phase in LIVING), one
            assert (one.stop is not None) == (one.phase in GOING), one
            assert (one.held is not None) == (one.phase is Phase.HELD), one
            if one.done is not None:
                assert (one.phase, one.wanted) == (Phase.STOPPED, False), one
            if one.stop is not None and one.stop.then is After.DONE:
                assert (one.stop.cause, one.phase, one.wanted) == (Cause.EXIT, Phase.RECLAIMING, False), one
            if not one.wanted and one.life is None:
                assert one.phase is Phase.STOPPED, one
            if isinstance(one.stop, Stop):
                assert one.stop.incident == one.incident, one

    def _reads(self, turn: Turn) -> None:
        self.fresh.clear()
        for name, seen in turn.snapshot.workers.items():
            one = turn.memory.workers.get(name)
            life = one.life if one is not None else None
            if life is None or life.run != seen.run or isinstance(seen.memory_bytes, Missing):
                continue
            cap, rule = life.plan.memory.cap_bytes, life.plan.breach
            past = self.readings.setdefault(life.run, Readings())
            if cap is None or seen.read_s <= past.read_s or seen.read_s < life.launched_s + rule.warm_up_s:
                continue
            past.over.append(seen.memory_bytes > cap)
            past.read_s = seen.read_s
            self.fresh.add(life.run)

    def _starves(self, turn: Turn) -> None:
        """Note who runs out of memory before the last rung of its ladder; a reload lets it begin anew."""
        for name, life in list(self.starved.items()):
            wanted = turn.plan.workers.get(name)
            if wanted is None or _ground(wanted) != _ground(life.plan):
                del self.starved[name]
        for news in turn.news:
            past = turn.memory.workers.get(news.worker) if isinstance(news, Exited) else None
            if not isinstance(news, Exited) or past is None or past.life is None or past.stop is not None:
                continue
            oom = news.verdict is not None and news.verdict.death in {Death.VRAM_OOM, Death.HOST_OOM}
            further = past.rung < len(past.life.plan.ladder) or _is_offered_more(past)
            if oom and past.life.run == news.run and further:
                self.starved[news.worker] = past.life
            else:
                self.starved.pop(news.worker, None)

    def _has_gone_down(self, order: Launch) -> None:
        life = self.starved.pop(order.worker, None)
        if life is not None and life.plan.ladder == order.plan.ladder:
            assert order.settings != life.settings, f"{order.worker} restarts into the same out-of-memory"

    def _fits(self, turn: Turn, order: Launch, decision: Decision) -> None:
        """Hold what was chosen to what was free in the turn in which it was launched."""
        life = decision.memory.workers[order.worker].life
        if life is None or life.fit is None or not life.fit.settings:
            return
        samples = {one.uuid: one for one in turn.snapshot.gpus}
        seen = tuple(samples) if order.gpus is None else order.gpus
        for uuid, wanted in zip(seen, life.fit.vram_bytes, strict=False):
            total, used = samples[uuid].memory_total_bytes, samples[uuid].memory_used_bytes
            assert not isinstance(total, Missing), "chosen for a GPU whose size is not known"
            assert not isinstance(used, Missing), "chosen for a GPU that cannot be read"
            assert wanted + GPU_RESERVE_BYTES <= total - used, f"{order.worker} does not fit {uuid}"

    def _may_launch(self, turn: Turn, decision: Decision, order: Launch) -> None:
        now_s, snapshot = turn.snapshot.taken_s, turn.snapshot
        assert not self.stopping, "launched while the daemon ends"
        assert order.run not in self.runs, f"a second life is named {order.run}"
        self.runs.add(order.run)
        seen = snapshot.workers.get(order.worker)
        past = turn.memory.workers.get(order.worker)
        if seen is not None and past is not None and past.life is not None and past.life.run == seen.run:
            assert not seen.pids, f"{order.worker} is launched while {seen.pids} live"
        assert now_s >= self.not_before.pop(order.worker, 0.0), (
            f"{order.worker} does not wait for its backoff"
        )
        available = snapshot.host.memory_available_bytes
        assert not isinstance(available, Missing), "launched without knowing the host's memory"
        assert available >= turn.plan.host.critical_available_bytes, "launched in an emergency"
        samples = {one.uuid: one for one in snapshot.gpus}
        for uuid in order.gpus or ():
            assert uuid in samples, f"launched on {uuid}, which nobody sees"
            assert samples[uuid].state is GpuState.OK, f"launched on {uuid}, which is {samples[uuid].state}"
            for other in decision.memory.workers.values():
                shares = other.life is not None and uuid in other.life.gpus and other.name != order.worker
                assert not shares or other.phase not in MOVING_MEMORY, f"{order.worker} beside {other}"

    def _worker(
        self, turn: Turn, decision: Decision, before: WorkerMemory | None, after: WorkerMemory
    ) -> None:
        now_s = turn.snapshot.taken_s
        began = after.stop is not None and (before is None or before.stop is None)
        if began and after.stop is not None and after.stop.cause is Cause.MEMORY_CAP:
            self._was_over(turn, after)
        if after.life is not None and after.phase in {Phase.STARTING, Phase.READY}:
            self._is_not_over(turn, decision, after)
        if before is not None and before.life is not None and after.life is None:
            counted = before.stop is not None and before.stop.counts and after.phase is Phase.WAITING
            if counted:
                first_s = before.life.plan.restart.first_s
                self.not_before[after.name] = now_s + 0.75 * first_s

    def _was_over(self, turn: Turn, after: WorkerMemory) -> None:
        assert after.life is not None
        rule, cap = after.life.plan.breach, after.life.plan.memory.cap_bytes
        seen = turn.snapshot.workers[after.name]
        assert cap is not None
        assert not isinstance(seen.memory_bytes, Missing), "stopped by a cap that nobody can read"
        assert seen.memory_bytes > cap
        assert sum(self.readings[after.life.run].over[-rule.of :]) >= rule.samples

    def _is_not_over(self, turn: Turn, decision: Decision, after: WorkerMemory) -> None:
        assert after.life is not None
        rule, past = after.life.plan.breach, self.readings.get(after.life.run)
        seen = turn.snapshot.workers.get(after.name)
        if past is None or seen is None or seen.run != after.life.run:
            return
        if after.life.run not in self.fresh:
            return  # it is judged when it is read
        if isinstance(seen.memory_bytes, Missing) or not past.over or not past.over[-1]:
            return
        if sum(past.over[-rule.of :]) >= rule.samples:
            assert self._sibling_down(turn.plan, decision, after.life.plan), (
                f"{after.name} stays over its cap"
            )

    def _sibling_down(self, plan: Plan, decision: Decision, one: WorkerPlan) -> bool:
        if one.replica is None:
            return False
        names = [name for name, other in plan.workers.items() if other.base == one.base and name != one.name]
        return any(
            name in decision.memory.workers
            and decision.memory.workers[name].phase in GOING | {Phase.WAITING, Phase.STARTING}
            for name in names
        )

    def _keeps_replicas(self, turn: Turn, decision: Decision) -> None:
        asked_now = any(isinstance(one, Asked) and one.now for one in turn.news)
        was_down = set(self.down)
        chosen: set[str] = set()
        for name, after in decision.memory.workers.items():
            before = turn.memory.workers.get(name)
            began = after.stop is not None and (before is None or before.stop is None)
            if began and after.stop is not None and after.stop.then is After.RESTART:
                if after.stop.cause not in ACCIDENTS:
                    self.down.add(name)
                if before is not None and before.phase is Phase.READY and after.stop.cause in SOFT:
                    chosen.add(name)
            rests = after.stop is not None and after.stop.then in {After.REST, After.DONE, After.REMOVE}
            if rests or after.phase in {Phase.READY, Phase.STOPPED, Phase.HELD}:
                self.down.discard(name)
        self.down.intersection_update(decision.memory.workers)
        for name in chosen:
            base = turn.plan.workers[name].base if name in turn.plan.workers else None
            siblings = {
                other for other, one in turn.plan.workers.items() if one.base == base and other != name
            }
            both = siblings & self.down & (was_down | chosen)
            assert asked_now or not both, f"{name} is taken down beside {both}"


def steps(decision: Decision) -> list[Launch | Signal | Kill | Probe]:
    """Return the actions that do something."""
    return [one for one in decision.actions if isinstance(one, Launch | Signal | Kill | Probe)]


def _is_offered_more(worker: WorkerMemory) -> bool:
    """Say whether rungs were reckoned for its life, whatever it runs out of."""
    asked = worker.reckoning
    if asked is None or asked.lives != worker.lives - 1:
        return False
    return None not in (asked.rungs.device, asked.rungs.loading, asked.rungs.serving, asked.rungs.shared)


def _ground(plan: WorkerPlan) -> tuple[object, ...]:
    """Return what a rung is found for."""
    return plan.command, plan.settings, plan.ladder, plan.environment, plan.gpus
