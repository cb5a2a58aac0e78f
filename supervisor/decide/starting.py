"""When a worker may start, and when it is ready."""

from typing import Final

from msgspec.structs import replace

from supervisor.decide.age import draw_max_age
from supervisor.decide.ladder import begin_anew, on_cpu, plan_on
from supervisor.decide.lifecycle import GOING, MOVING_MEMORY, Event
from supervisor.decide.mapped import tell_of_weights
from supervisor.decide.placement import because, choose_gpus, no_room
from supervisor.decide.reckoning import UNDER_WAY, choose_fit, is_under_way, reckon
from supervisor.decide.reclaim import residuals
from supervisor.decide.scratch import Scratch
from supervisor.decide.stopping import RESTS, Order, stop
from supervisor.model.action import Launch, Notice, Probe
from supervisor.model.fit import Fit
from supervisor.model.headroom import effective_available
from supervisor.model.memory import After, Life, WorkerMemory
from supervisor.model.phase import Cause, Phase, Pressure
from supervisor.model.plan import AfterTarget, HttpTarget, LlamaTarget, TcpTarget, WorkerPlan
from supervisor.model.quantity import format_size, format_span
from supervisor.model.reading import Missing

# A readiness probe is repeated after a tenth of the time waited so far, within these bounds: a tiny
# model is seen ready at once, one that loads for minutes is not asked a thousand times.
READY_PROBE_S: Final = (0.05, 1.0)
READY_PROBE_TIMEOUT_S: Final = 2.0
ProbedReady = HttpTarget | TcpTarget | LlamaTarget
BACKOFF: Final = "backoff"
# What took a worker down that was nobody's decision.
ACCIDENTS: Final = frozenset(
    {Cause.EXIT, Cause.CRASH, Cause.HOST_OOM_KILL, Cause.HOST_OOM, Cause.VRAM_OOM, Cause.GPU_FAULT}
)
# To start a program takes a millisecond or two, in which nothing else is seen: 500 at once would make the
# emergency path wait for half a second.
LAUNCHES_A_TURN: Final = 8


def admit(scratch: Scratch) -> list[str]:
    """Start every waiting worker that may start, by priority and then by name; return their names."""
    if scratch.stopping:
        return []
    started: list[str] = []
    waiting = [one for one in scratch.workers.values() if one.phase is Phase.WAITING]
    for worker in sorted(waiting, key=lambda one: _order(scratch, one)):
        if len(started) == LAUNCHES_A_TURN:  # the news of their launch brings the next turn at once
            break
        plan = scratch.plan.workers.get(worker.name)
        if plan is None:
            continue
        if _admit_one(scratch, worker, plan):
            started.append(worker.name)
    return started


def _admit_one(scratch: Scratch, worker: WorkerMemory, plan: WorkerPlan) -> bool:
    gpus = choose_gpus(scratch, worker, plan)
    worker = begin_anew(scratch, worker, plan, gpus if isinstance(gpus, tuple) else ())
    worker = reckon(scratch, worker, plan)
    if is_under_way(scratch, worker):  # some milliseconds, so nobody is told
        scratch.put(replace(worker, waits_for=worker.waits_for or UNDER_WAY))
        return False
    gpus = () if on_cpu(worker, plan) else gpus
    why = gpus if isinstance(gpus, str) else waits_for(scratch, worker, plan, gpus or ())
    if why is None and not isinstance(gpus, str):
        fit = choose_fit(scratch, worker, plan, gpus)
        if not isinstance(fit, str):
            launch(scratch, worker, plan, gpus, fit)
            return True
        why = fit
    if why != worker.waits_for:
        _tell_waiting(scratch, worker, why or "")
    return False


def _order(scratch: Scratch, worker: WorkerMemory) -> tuple[int, str]:
    plan = scratch.plan.workers.get(worker.name)
    return (-plan.priority if plan else 0, worker.name)


def _tell_waiting(scratch: Scratch, worker: WorkerMemory, why: str) -> None:
    scratch.put(replace(worker, waits_for=why))
    scratch.tell(Notice("info", "worker waiting", why, worker=worker.name))


def waits_for(scratch: Scratch, worker: WorkerMemory, plan: WorkerPlan, gpus: tuple[str, ...]) -> str | None:
    """Return what a worker has to wait for, or None if nothing is in its way."""
    if (wait_s := worker.retry_s - scratch.now_s) > 0:
        told = worker.waits_for or ""
        return told if told.startswith(BACKOFF) else f"{BACKOFF} of {format_span(round(wait_s, 1))}"
    if (short := _short_of_memory(scratch, worker)) is not None:
        return short
    for needed in plan.after:
        if (behind := _not_ready(scratch, needed)) is not None:
            return f"{behind} to be ready"
    for uuid in gpus:
        past = scratch.gpus.get(uuid)
        if past is not None and past.quarantine is not None:
            return f"GPU {uuid}: {past.quarantine}"
    busy = scratch.busy_gpu(gpus, MOVING_MEMORY, but=worker.name)
    if busy is not None:
        return f"its turn on GPU {busy[0]}, where {busy[1]} starts or stops"
    return no_room(scratch, worker, plan, gpus)


def _short_of_memory(scratch: Scratch, worker: WorkerMemory) -> str | None:
    """Keep everything back in an emergency, and the victim of one until it would not cause the next."""
    if scratch.no_room is not None:
        return f"host memory to recover ({scratch.no_room})"
    if scratch.host.pressure is Pressure.NORMAL or worker.last is None:
        return None
    available = effective_available(scratch.snapshot.host)
    if worker.last.cause is not Cause.HOST_MEMORY or isinstance(available, Missing):
        return None
    floor_bytes = scratch.plan.host.critical_available_bytes + worker.peak_memory_bytes
    if available >= floor_bytes:
        return None
    held = format_size(worker.peak_memory_bytes)
    return f"{format_size(floor_bytes)} of host memory; it held {held} when it was ended"


def _not_ready(scratch: Scratch, base: str) -> str | None:
    for name, plan in scratch.plan.workers.items():
        if base in {plan.base, name}:
            worker = scratch.workers.get(name)
            if worker is None or (worker.phase is not Phase.READY and worker.done is None):
                return name
    return None


def launch(
    scratch: Scratch, worker: WorkerMemory, plan: WorkerPlan, gpus: tuple[str, ...] | None, fit: Fit | None
) -> None:
    """Begin a life, with what was chosen for it."""
    now_s, started = scratch.now_s, plan_on(worker, plan)
    # With the time in it, a worker that was removed and comes back has no run of an old name.
    run = f"{scratch.memory.instance}-{worker.name}-{worker.lives + 1}-{int(now_s * 1000)}"
    life = Life(
        run=run,
        plan=plan,
        launched_s=now_s,
        launched_wall_s=scratch.snapshot.wall_s,
        settings={**started.settings, **({} if fit is None else fit.settings)},
        fit=fit,
        rung=worker.rung,
        gpus=gpus or (),
        max_age_s=draw_max_age(plan, run),
        start_by_s=now_s + plan.start_timeout_s,
        probe_due_s=now_s + READY_PROBE_S[0] if isinstance(plan.ready, ProbedReady) else None,
        residual_bytes=residuals(scratch.samples, gpus or ()) if gpus != () else {},
    )
    worker = scratch.step(worker, Event.LAUNCH)
    scratch.put(
        replace(worker, life=life, lives=worker.lives + 1, held=None, waits_for=None, peak_memory_bytes=0)
    )
    scratch.ledger = None  # it is promised what it has not taken yet
    tell_of_weights(scratch, worker, plan, fit)
    scratch.do(Launch(worker.name, run, started, life.settings, gpus, why_launched(worker)))


def why_launched(worker: WorkerMemory) -> str:
    """Say why a worker is launched: the reason of its restart, or that it is wanted."""
    return worker.last.reason if worker.last is not None and worker.incident else "it is wanted"


def watch_start(scratch: Scratch, worker: WorkerMemory) -> WorkerMemory:
    """See whether a starting worker is ready, has run out of time, or is to be asked again."""
    life, now_s = worker.life, scratch.now_s
    if worker.phase is not Phase.STARTING or life is None:
        return worker
    target, runs = life.plan.ready, life.identity is not None
    if target is None and runs:
        return become_ready(scratch, worker, "it is launched, and no readiness is configured")
    if isinstance(target, AfterTarget) and runs and now_s >= life.launched_s + target.delay_s:
        return become_ready(scratch, worker, f"it has lived for {format_span(target.delay_s)}")
    if life.start_by_s is not None and now_s >= life.start_by_s:
        reason = f"not ready within {format_span(round(life.start_by_s - life.launched_s, 1))} of its launch"
        reason += f": {life.unready}" if life.unready else ""
        return stop(
            scratch, worker, Order(Cause.START_TIMEOUT, reason, After.RESTART, drain=False, counts=True)
        )
    if not runs or life.probe_due_s is None or now_s < life.probe_due_s:
        return worker
    if not isinstance(target, ProbedReady):
        return worker
    scratch.do(Probe(worker.name, life.run, "ready", target, READY_PROBE_TIMEOUT_S, "is it ready?"))
    return scratch.put(replace(worker, life=replace(life, probe_due_s=None, probe_sent_s=now_s)))


def ready_answer(scratch: Scratch, worker: WorkerMemory, *, good: bool, detail: str) -> WorkerMemory:
    """Take the answer of a readiness probe."""
    life = worker.life
    if worker.phase is not Phase.STARTING or life is None:
        return worker
    if good:
        return become_ready(scratch, worker, detail)
    shortest, longest = READY_PROBE_S
    waited_s = scratch.now_s - life.launched_s
    due_s = scratch.now_s + min(max(waited_s / 10, shortest), longest)
    life = replace(life, probe_due_s=due_s, probe_sent_s=None, unready=detail)
    return scratch.put(replace(worker, life=life))


def become_ready(scratch: Scratch, worker: WorkerMemory, detail: str) -> WorkerMemory:
    """Note that a worker is ready, and end the incident that its predecessor left."""
    life, now_s = worker.life, scratch.now_s
    if worker.phase is not Phase.STARTING or life is None:
        return worker
    took_s = now_s - life.launched_s
    outcome = None if worker.incident is None else f"ready again after {took_s:.1f} s"
    pid = life.identity.pid if life.identity else None
    scratch.tell(
        Notice(
            "info",
            "worker ready",
            detail,
            worker=worker.name,
            outcome=outcome,
            fields={"pid": pid, "took_s": round(took_s, 3)},
        )
    )
    health = life.plan.health
    due_s = None if health is None else now_s + health.interval_s
    worker = scratch.step(worker, Event.READY)
    life = replace(life, ready_s=now_s, unready=None, probe_due_s=due_s, probe_sent_s=None)
    return scratch.put(replace(worker, life=life, incident=None, down_for=None))


def down_by_our_hand(worker: WorkerMemory) -> bool:
    """Say whether a worker is on its way down or up again because we said so.

    What took it down first decides: one that we restarted and that crashes since is still down by our hand.
    """
    if worker.phase in GOING and (worker.stop is None or worker.stop.then in {*RESTS, After.REMOVE}):
        return False
    down = worker.phase in GOING or worker.phase in {Phase.WAITING, Phase.STARTING}
    return down and worker.down_for is not None and worker.down_for not in ACCIDENTS


def in_the_way(scratch: Scratch, worker: WorkerMemory, life: Life) -> str | None:
    """Return why a restart that can wait has to wait, or None."""
    if scratch.no_room is not None:
        return f"{scratch.no_room}, and it could not start again"
    for uuid in life.gpus:
        if uuid not in scratch.samples:
            why = because(scratch.snapshot.gpu_missing)
            return f"GPU {uuid} is not there{why}, and it could not start again"
        past = scratch.gpus.get(uuid)
        if past is not None and past.quarantine is not None:
            return f"GPU {uuid} is quarantined, and it could not start again"
    busy = scratch.busy_gpu(life.gpus, MOVING_MEMORY, but=worker.name)
    if busy is not None:
        return f"{busy[1]} starts or stops on GPU {busy[0]}"
    return sibling_down(scratch, worker, life)


def sibling_down(scratch: Scratch, worker: WorkerMemory, life: Life) -> str | None:
    """Return the replica of the same worker that is down by our hand, in words, or None."""
    down = [other.name for other in _siblings(scratch, worker, life) if down_by_our_hand(other)]
    return f"{down[0]} is down" if down else None


def sibling_held(scratch: Scratch, worker: WorkerMemory, life: Life) -> str | None:
    """Return the replica that we took down and that did not come back, in words, or None.

    Whatever it failed for, a changed configuration say, would take the next replica down as well.
    """
    held = [
        other.name
        for other in _siblings(scratch, worker, life)
        if other.phase is Phase.HELD and other.down_for is not None and other.down_for not in ACCIDENTS
    ]
    return f"{held[0]} was restarted before it, and is held" if held else None


def _siblings(scratch: Scratch, worker: WorkerMemory, life: Life) -> list[WorkerMemory]:
    if life.plan.replica is None:
        return []
    return [
        scratch.workers[name]
        for name, plan in scratch.plan.workers.items()
        if plan.base == life.plan.base and name in scratch.workers and name != worker.name
    ]
