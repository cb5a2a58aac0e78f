"""One turn: from what is wanted, remembered, seen and heard to what is done and remembered."""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from supervisor.decide.alerts import judge_alerts
from supervisor.decide.emergency import watch_host
from supervisor.decide.endings import exited, launch_failed
from supervisor.decide.gpus import watch_gpus
from supervisor.decide.kernel import hear_oom_kill, hear_xid
from supervisor.decide.ladder import climbs_s
from supervisor.decide.lifecycle import LIVING
from supervisor.decide.reckoning import ANSWER_S, hear_reckoned
from supervisor.decide.reclaim import reclaim
from supervisor.decide.reports import hear_report, tell_changes
from supervisor.decide.running import health_answer, judge, lost_by_s, take_readings
from supervisor.decide.scratch import Scratch
from supervisor.decide.starting import admit, become_ready, ready_answer, watch_start, why_launched
from supervisor.decide.stopping import KILL_AGAIN_S, Order, advance, drained, stop
from supervisor.decide.wishes import end, obey, reconcile
from supervisor.decide.words import advise
from supervisor.model.action import Field, Notice
from supervisor.model.memory import After, Decision, Life, Memory, WorkerMemory
from supervisor.model.news import (
    Asked,
    Exited,
    Launched,
    LaunchFailed,
    LifeNews,
    News,
    Notified,
    OomKilled,
    Probed,
    Reckoned,
    Reported,
    Shutdown,
    XidSeen,
)
from supervisor.model.phase import Cause, Phase
from supervisor.model.plan import AfterTarget, NotifyTarget, Plan
from supervisor.model.snapshot import Snapshot

# Where a restart waits for something else to end, it is looked at again this often.
LOOK_AGAIN_S: Final = 1.0
# GPU memory that is on its way back is polled at this rate (at 250 ms at most).
RECLAIM_POLL_S: Final = 0.1
# Not infinity: memory is kept as JSON, which has none.
NEVER_S: Final = 1e15


def decide(plan: Plan, memory: Memory, snapshot: Snapshot, news: Sequence[News]) -> Decision:
    """Decide one turn.

    Pure: the only time is `snapshot.taken_s`, the only chance is drawn from the names of runs.
    Raises `ImpossibleMoveError` where the supervisor itself is at fault.
    """
    scratch = Scratch(plan, memory, snapshot)
    touched = {name for one in news if (name := _hear(scratch, one)) is not None}
    reconcile(scratch)
    watch_gpus(scratch)
    watch_host(scratch)
    for name in list(scratch.workers):
        _judge(scratch, name, touched)
    for name in admit(scratch):
        _schedule(scratch, scratch.workers[name])
    advise(scratch)
    return _conclude(scratch)


def _conclude(scratch: Scratch) -> Decision:
    past = scratch.memory
    memory = Memory(
        past.instance,
        scratch.workers,
        scratch.host,
        scratch.gpus,
        stopping=scratch.stopping,
        hurry=scratch.hurry,
        alerts=past.alerts,
    )
    alerts, told = judge_alerts(scratch.plan, memory, scratch.snapshot)
    if alerts is not past.alerts:
        memory = replace(memory, alerts=alerts)
    due = [one.due_s for one in scratch.workers.values() if one.phase in LIVING or one.phase is Phase.WAITING]
    due = [at for at in due if at != NEVER_S]
    gone = scratch.stopping and all(_let_go(one) for one in scratch.workers.values())
    return Decision((*scratch.actions, *told), memory, min(due, default=None), done=gone or scratch.leave)


def _let_go(worker: WorkerMemory) -> bool:
    """Say whether a daemon that ends has nothing to wait for: what SIGKILL does not end is the next one's."""
    return worker.life is None or (worker.stop is not None and worker.stop.overdue)


def _judge(scratch: Scratch, name: str, touched: set[str]) -> None:
    """Judge one worker, unless nothing was read or heard of it and none of its times has come."""
    worker = scratch.workers[name]
    before = scratch.memory.workers.get(name)
    seen = scratch.sighting(worker)
    fresh = (
        seen is not None and worker.life is not None and _is_fresh(worker.life, seen.read_s, seen.vram_read_s)
    )
    # By value, not by identity: a turn that is replayed from a recording comes to the same.
    same = worker is before or worker == before
    if same and name not in touched and not fresh and scratch.now_s < worker.due_s:
        return
    if seen is not None and fresh and worker.phase is not Phase.RECLAIMING:
        worker = take_readings(scratch, worker, seen)
    worker = tell_changes(scratch, worker)
    worker = watch_start(scratch, worker)
    worker = judge(scratch, worker)
    worker = advance(scratch, worker)
    worker = reclaim(scratch, worker)
    if name in scratch.workers:
        _schedule(scratch, scratch.workers[name])


def _is_fresh(life: Life, read_s: float, vram_read_s: float) -> bool:
    return read_s > life.memory.read_s or vram_read_s > life.vram.read_s


def _schedule(scratch: Scratch, worker: WorkerMemory) -> None:
    due_s = min(_times(scratch, worker), default=NEVER_S)
    if due_s != worker.due_s:
        scratch.put(replace(worker, due_s=due_s))


def _times(scratch: Scratch, worker: WorkerMemory) -> list[float]:
    """Return the times at which something is to be judged even if nothing is heard."""
    life, begun, now_s = worker.life, worker.stop, scratch.now_s
    if worker.phase is Phase.WAITING:
        asked = worker.reckoning
        answer_s = 0.0 if asked is None or asked.answered else asked.asked_s + ANSWER_S
        return [at for at in (worker.retry_s, answer_s) if at > now_s]
    if life is None:
        return []
    if worker.phase is Phase.RECLAIMING:
        return [now_s + RECLAIM_POLL_S]
    times: list[float | None] = []
    if worker.phase is Phase.STARTING:
        times = [*_starting_times(life), _sample_s(life, now_s)]
    elif worker.phase is Phase.READY:
        times = [*_ready_times(worker, life, now_s), _sample_s(life, now_s)]
    elif begun is not None and worker.phase is Phase.DRAINING:
        times = [life.probe_due_s, begun.drain_by_s]
    elif begun is not None and worker.phase is Phase.KILLING:
        times = [(begun.killed_s or now_s) + KILL_AGAIN_S]
    elif begun is not None:
        times = [begun.kill_s, begun.again_s]
    return [at for at in times if at is not None]


def _sample_s(life: Life, now_s: float) -> float | None:
    """Return when its memory is to be read before the next look; one that fails then waits for that look."""
    return life.sample_s if life.sample_s is not None and life.sample_s > now_s else None


def _starting_times(life: Life) -> list[float | None]:
    if life.identity is None:
        return [life.start_by_s]  # nobody can be asked or seen before it is launched
    target = life.plan.ready
    after_s = life.launched_s + target.delay_s if isinstance(target, AfterTarget) else None
    return [life.start_by_s, after_s, life.probe_due_s]


def _ready_times(worker: WorkerMemory, life: Life, now_s: float) -> list[float | None]:
    aged_s = None if life.max_age_s is None else max(life.launched_s + life.max_age_s, now_s + LOOK_AGAIN_S)
    if life.max_age_s is not None and life.launched_s + life.max_age_s > now_s:
        aged_s = life.launched_s + life.max_age_s
    climbs_at_s = climbs_s(worker, life)
    climb_s = None if climbs_at_s is None else max(climbs_at_s, now_s + LOOK_AGAIN_S)
    beat = life.plan.heartbeat_s
    silent_s = None if beat is None else max(life.ready_s or 0.0, life.heartbeat_s or 0.0) + beat + 0.001
    pending_s = None if worker.pending is None else now_s + LOOK_AGAIN_S
    health, sent_s = life.plan.health, life.probe_sent_s
    lost_s = None if health is None or sent_s is None else lost_by_s(health, sent_s) + 0.001
    return [life.probe_due_s, aged_s, climb_s, silent_s, pending_s, lost_s]


def _hear(scratch: Scratch, news: News) -> str | None:
    """Take one piece of news; return the worker that is to be judged for it."""
    if isinstance(news, Asked):
        obey(scratch, news)
        return None
    if isinstance(news, Shutdown):
        end(scratch, news)
        return None
    if isinstance(news, Reckoned):
        return hear_reckoned(scratch, news)
    if isinstance(news, XidSeen):
        hear_xid(scratch, news)
        return news.worker
    worker = scratch.workers.get(news.worker)
    if worker is None or worker.life is None or worker.life.run != news.run:
        return None  # of a life that is over
    _hear_of_life(scratch, worker, worker.life, news)
    return news.worker


def _hear_of_life(scratch: Scratch, worker: WorkerMemory, life: Life, news: LifeNews) -> None:
    if isinstance(news, Launched):
        _launched(scratch, worker, life, news)
    elif isinstance(news, LaunchFailed):
        launch_failed(scratch, worker, news)
    elif isinstance(news, Exited):
        exited(scratch, worker, life, news)
    elif isinstance(news, OomKilled):
        hear_oom_kill(scratch, worker, life, news)
    elif isinstance(news, Probed):
        _probed(scratch, worker, news)
    elif isinstance(news, Reported):
        hear_report(scratch, worker, life, news)
    else:
        _notified(scratch, worker, life, news)


def _launched(scratch: Scratch, worker: WorkerMemory, life: Life, news: Launched) -> None:
    scratch.put(replace(worker, life=replace(life, identity=news.identity)))
    fields: dict[str, Field] = {"pid": news.identity.pid, "run": news.run}
    if life.max_age_s is not None:
        fields["max_age_s"] = round(life.max_age_s, 1)
    if life.fit is not None and life.fit.settings:
        fields |= life.fit.settings
        fields |= {} if life.fit.assumed is None else {"not_reckoned": life.fit.assumed}
    cause = worker.last.cause if worker.last is not None and worker.incident else None
    reason = why_launched(worker)
    scratch.tell(Notice("info", "worker launched", reason, worker=worker.name, cause=cause, fields=fields))


def _probed(scratch: Scratch, worker: WorkerMemory, news: Probed) -> None:
    if news.purpose == "ready":
        ready_answer(scratch, worker, good=news.good, detail=news.detail)
    elif news.purpose == "health":
        health_answer(scratch, worker, news)
    else:
        drained(scratch, worker, idle=news.good, detail=news.detail)


def _notified(scratch: Scratch, worker: WorkerMemory, life: Life, news: Notified) -> None:
    if news.watchdog:
        life = replace(life, heartbeat_s=scratch.now_s)
        worker = scratch.put(replace(worker, life=life))
    if news.extend_s is not None:
        worker = _extend(scratch, worker, life, news.extend_s)
    if news.ready and isinstance(life.plan.ready, NotifyTarget):
        become_ready(scratch, worker, "it sent READY=1")
    elif news.trigger and worker.phase is Phase.READY:
        reason = (
            f"it says itself that it is broken (WATCHDOG=trigger){': ' + news.status if news.status else ''}"
        )
        stop(scratch, worker, Order(Cause.UNHEALTHY, reason, After.RESTART, drain=False, counts=True))


def _extend(scratch: Scratch, worker: WorkerMemory, life: Life, extend_s: float) -> WorkerMemory:
    """Move the deadline of what is under way, as EXTEND_TIMEOUT_USEC of sd_notify does."""
    until_s = scratch.now_s + extend_s
    if worker.phase is Phase.STARTING:
        return scratch.put(
            replace(worker, life=replace(life, start_by_s=max(life.start_by_s or 0.0, until_s)))
        )
    begun = worker.stop
    urgent = scratch.host.victim == worker.name or scratch.hurry  # the machine waits for its memory
    if worker.phase is Phase.STOPPING and begun is not None and begun.kill_s is not None and not urgent:
        return scratch.put(replace(worker, stop=replace(begun, kill_s=max(begun.kill_s, until_s))))
    return worker
