"""What operators and a changed configuration ask for."""

from msgspec.structs import replace

from supervisor.decide.lifecycle import GOING, Event
from supervisor.decide.scratch import Scratch
from supervisor.decide.stopping import RESTS, Order, hasten, stop
from supervisor.model.action import Notice
from supervisor.model.memory import After, Life, Pending, WorkerMemory
from supervisor.model.news import Asked, Shutdown
from supervisor.model.phase import Cause, Phase
from supervisor.model.plan import WorkerPlan


def obey(scratch: Scratch, asked: Asked) -> None:
    """Do what an operator asks; a base name means all its replicas."""
    reason = asked.reason or f"asked for by {asked.by or 'an operator'}"
    for worker in [one for one in scratch.workers.values() if _is_meant(scratch, one, asked)]:
        if asked.wish == "start":
            _start(scratch, worker)
        elif asked.wish == "stop":
            _stop(scratch, worker, reason, now=asked.now)
        elif asked.wish == "restart":
            _restart(scratch, worker, reason, now=asked.now)
        else:
            _reset(scratch, worker)
        scratch.tell(
            Notice("info", f"{asked.wish} asked for", reason, worker=worker.name, fields={"by": asked.by})
        )


def _is_meant(scratch: Scratch, worker: WorkerMemory, asked: Asked) -> bool:
    plan = scratch.plan.workers.get(worker.name) or (worker.life.plan if worker.life else None)
    return worker.name in asked.workers or (plan is not None and plan.base in asked.workers)


def _start(scratch: Scratch, worker: WorkerMemory) -> None:
    worker = scratch.put(replace(worker, wanted=True))
    if worker.phase is Phase.STOPPED:
        scratch.step(scratch.put(replace(worker, retry_s=scratch.now_s)), Event.WANTED)
    elif worker.phase in GOING and worker.stop is not None and worker.stop.then in RESTS:
        scratch.put(replace(worker, stop=replace(worker.stop, then=After.RESTART)))


def _stop(scratch: Scratch, worker: WorkerMemory, reason: str, *, now: bool) -> None:
    worker = scratch.put(replace(worker, wanted=False, pending=None))
    if worker.life is not None:
        stop(scratch, worker, Order(Cause.OPERATOR, reason, After.REST, drain=not now))
        return
    if worker.incident is not None:
        outcome = Notice("info", "worker stopped", reason, worker=worker.name, outcome="stopped")
        scratch.tell(outcome)
    worker = scratch.put(replace(worker, held=None, incident=None, down_for=None))
    scratch.step(worker, Event.UNWANTED)


def _restart(scratch: Scratch, worker: WorkerMemory, reason: str, *, now: bool) -> None:
    worker = scratch.put(replace(worker, wanted=True))
    if worker.life is None:
        released = replace(
            worker,
            retry_s=scratch.now_s,
            held=None,
            failures_s=(),
            other_failures_s={},
            backoff=0,
            waits_for=None,
        )
        scratch.step(scratch.put(released), Event.WANTED)
    elif worker.phase is Phase.READY and not now:
        scratch.put(replace(worker, pending=Pending(Cause.OPERATOR, reason)))
    else:
        stop(scratch, worker, Order(Cause.OPERATOR, reason, After.RESTART, drain=not now))


def _reset(scratch: Scratch, worker: WorkerMemory) -> None:
    clean = replace(
        worker,
        held=None,
        failures_s=(),
        other_failures_s={},
        backoff=0,
        oom_events=0,
        rung=0,
        footing=None,
        made=(),
        starved_gpus=(),
        above_cap_lives=0,
        retry_s=scratch.now_s,
        waits_for=None,
    )
    worker = scratch.put(clean)
    _trust_again(scratch, worker)
    if worker.phase is Phase.HELD:
        scratch.step(worker, Event.WANTED if worker.wanted else Event.UNWANTED)


def _trust_again(scratch: Scratch, worker: WorkerMemory) -> None:
    """Release the GPUs of a worker that are quarantined for more than the driver says: an operator knows."""
    plan = scratch.plan.workers.get(worker.name)
    for sample in scratch.snapshot.gpus:
        past = scratch.gpus.get(sample.uuid)
        if plan is None or past is None or (past.residual_limit_bytes is None and not past.until_reset):
            continue
        if plan.gpus.kind != "listed" or {sample.index, sample.uuid}.intersection(plan.gpus.listed):
            scratch.gpus[sample.uuid] = replace(
                past, quarantine=None, residual_limit_bytes=None, until_reset=False
            )
            text = f"released by an operator; it was quarantined: {past.quarantine}"
            scratch.tell(Notice("info", "gpu recovered", text, gpu=sample.uuid))


def end(scratch: Scratch, news: Shutdown) -> None:
    """Stop everything at the same time, undrained; in a hurry, kill it; or leave it to the next daemon."""
    if news.leave:
        scratch.leave = True
        return
    scratch.stopping = True
    scratch.hurry = scratch.hurry or news.hurry
    for worker, _ in scratch.living():
        if scratch.hurry:
            hasten(scratch, worker, "the supervisor ends, and was told to hurry")
        else:
            order = Order(Cause.OPERATOR, "the supervisor ends", After.REST, drain=False)
            stop(scratch, worker, order)


def reconcile(scratch: Scratch) -> None:
    """Bring the workers that are known in line with the configuration."""
    for name, plan in scratch.plan.workers.items():
        worker = scratch.workers.get(name)
        if worker is None:
            scratch.put(WorkerMemory(name, since_s=scratch.now_s))
        elif worker.phase is Phase.STOPPED and worker.wanted and not scratch.stopping:
            scratch.step(scratch.put(replace(worker, retry_s=scratch.now_s)), Event.WANTED)
        elif worker.life is not None and worker.life.plan is not plan:
            _compare(scratch, worker, worker.life, plan)
    for name in [name for name in scratch.workers if name not in scratch.plan.workers]:
        _remove(scratch, scratch.workers[name])


def _compare(scratch: Scratch, worker: WorkerMemory, life: Life, plan: WorkerPlan) -> None:
    if life.plan == plan:
        # A change that was taken back before it was acted on asks for nothing.
        asked = worker.pending is not None and worker.pending.cause is Cause.RELOAD
        pending = None if asked else worker.pending
        scratch.put(replace(worker, life=replace(life, plan=plan), pending=pending))
    elif worker.phase is Phase.STARTING:
        order = Order(Cause.RELOAD, "its configuration has changed", After.RESTART, drain=False)
        stop(scratch, worker, order)
    elif worker.phase is Phase.READY and worker.pending is None:
        scratch.put(replace(worker, pending=Pending(Cause.RELOAD, "its configuration has changed")))


def _remove(scratch: Scratch, worker: WorkerMemory) -> None:
    if worker.life is None:
        why = "it is no longer in the configuration"
        outcome = None if worker.incident is None else "removed"
        scratch.tell(Notice("info", "worker removed", why, worker=worker.name, outcome=outcome))
        del scratch.workers[worker.name]
    elif worker.stop is None or worker.stop.then is not After.REMOVE:
        order = Order(Cause.RELOAD, "it is no longer in the configuration", After.REMOVE)
        stop(scratch, worker, order)
