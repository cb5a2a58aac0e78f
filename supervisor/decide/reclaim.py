"""A stop is done when the tree is gone and the memory is back, and not before."""

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from supervisor.decide.footprint import learn
from supervisor.decide.ladder import rung_above
from supervisor.decide.lifecycle import Event
from supervisor.decide.restarts import delay_s, failures_of, misconfigured, spend, with_failures
from supervisor.decide.scratch import Scratch
from supervisor.decide.stopping import KILL_AGAIN_S, RESTS
from supervisor.model.action import Forget, Kill, Notice
from supervisor.model.memory import After, Budget, GpuMemory, LastRestart, Life, Stop, WorkerMemory
from supervisor.model.phase import Cause, GpuState, Phase
from supervisor.model.quantity import format_size, format_span
from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuSample

# GPU memory is given back by the driver after the process is gone: llama-swap#97, ollama#7654 waits 5 s
# and still reports it unrecovered (#9509). Beyond this it is an incident.
RECLAIM_S: Final = 30.0
# Where the supervisor itself ends, nobody is waiting to start: the next one finds the quarantine instead.
ENDING_RECLAIM_S: Final = 5.0
# What no process holds may differ by this much before and after: contexts and caches of the driver.
TOLERANCE_BYTES: Final = 256 << 20
UNREADABLE: Final = "what is held on it cannot be read"


def residual_bytes(sample: GpuSample) -> int | Missing:
    """Return what is used on a GPU beyond what its processes hold; all of it where they cannot be listed."""
    used = sample.memory_used_bytes
    if isinstance(used, Missing) or isinstance(sample.processes, Missing):
        return used
    held = [one.memory_bytes for one in sample.processes]
    return max(0, used - sum(one for one in held if not isinstance(one, Missing)))


def residuals(samples: Mapping[str, GpuSample], gpus: tuple[str, ...]) -> dict[str, int]:
    """Return what each GPU holds for nobody before a launch, to compare with after it."""
    found = {uuid: residual_bytes(samples[uuid]) for uuid in gpus or samples if uuid in samples}
    return {uuid: value for uuid, value in found.items() if not isinstance(value, Missing)}


def reclaim(scratch: Scratch, worker: WorkerMemory) -> WorkerMemory:
    """Look at what a worker whose main process is gone still holds; finish its life once that is nothing."""
    life, begun, now_s = worker.life, worker.stop, scratch.now_s
    if worker.phase is not Phase.RECLAIMING or life is None or begun is None or begun.exited_s is None:
        return worker
    overdue = begun.reclaim_by_s is not None and now_s >= begun.reclaim_by_s
    left = _tree(scratch, worker, begun)
    if left is None:
        return _say_unseen(scratch, worker, begun) if overdue and not begun.overdue else worker
    if left:
        return _kill_rest(scratch, worker, left, overdue=overdue)
    # In a hurry only the processes are waited for: no successor of ours is to find the memory taken.
    held = {} if scratch.hurry else _held_gpus(scratch, life, begun)
    patient = now_s < begun.exited_s + (ENDING_RECLAIM_S if scratch.stopping else RECLAIM_S)
    if held and patient and not overdue:
        return scratch.put(replace(worker, waits_for=f"memory of {', '.join(sorted(held))} to come back"))
    for uuid, why in held.items():
        if why != UNREADABLE:  # nothing is known against this GPU, and the processes are gone
            _quarantine(scratch, worker, uuid, why)
    return finish(scratch, worker, life, begun)


def _tree(scratch: Scratch, worker: WorkerMemory, begun: Stop) -> tuple[int, ...] | None:
    """Return the processes that are left, or None where nobody has looked since the main one went."""
    if worker.life is not None and worker.life.identity is None:
        return ()  # nothing was ever launched
    seen = scratch.sighting(worker)
    if seen is None or begun.exited_s is None or seen.read_s < begun.exited_s:
        return None
    return seen.pids


def _say_unseen(scratch: Scratch, worker: WorkerMemory, begun: Stop) -> WorkerMemory:
    text = "nobody can see whether its processes are gone: it is not started beside them"
    scratch.tell(Notice("error", "worker unseen", text, worker=worker.name, cause=begun.cause))
    return scratch.put(replace(worker, stop=replace(begun, overdue=True)))


def _kill_rest(
    scratch: Scratch, worker: WorkerMemory, left: tuple[int, ...], *, overdue: bool
) -> WorkerMemory:
    life, begun, now_s = worker.life, worker.stop, scratch.now_s
    if life is None or begun is None:
        return worker
    if overdue and not begun.overdue:
        text = f"{len(left)} processes of it cannot be killed (pid {left[0]}): it is not started beside them"
        scratch.tell(Notice("error", "worker unkillable", text, worker=worker.name, cause=begun.cause))
        begun = replace(begun, overdue=True)
    if begun.killed_s is None or now_s >= begun.killed_s + KILL_AGAIN_S:
        scratch.do(Kill(worker.name, life.run, f"{len(left)} processes outlive the main one"))
        begun = replace(begun, killed_s=now_s)
    return scratch.put(replace(worker, stop=begun, waits_for=f"{len(left)} of its processes to end"))


def _held_gpus(scratch: Scratch, life: Life, begun: Stop) -> dict[str, str]:
    """Return the GPUs that do not show the worker's memory as back, each with why."""
    held: dict[str, str] = {}
    for uuid in dict.fromkeys((*life.gpus, *life.seen_gpus)):
        sample = scratch.samples.get(uuid)
        if sample is not None and sample.state is not GpuState.OK:
            continue  # quarantined as a whole: nothing is started on it until it answers again
        # One that is not known at all was not read yet: this daemon has only begun.
        why = UNREADABLE if sample is None else _still_held(sample, life, begun)
        if why is not None:
            held[uuid] = why
    return held


def _still_held(sample: GpuSample, life: Life, begun: Stop) -> str | None:
    if begun.exited_s is not None and sample.read_s < begun.exited_s:
        return "not read since"
    if isinstance(sample.memory_used_bytes, Missing) or isinstance(sample.processes, Missing):
        # Where it was never told, that the tree is gone has to do; where it was, it is told again.
        return UNREADABLE if sample.uuid in life.seen_gpus else None
    if any(isinstance(one.memory_bytes, Missing) for one in sample.processes):
        return _listed(sample, life)  # what a process holds cannot be told from what nobody holds
    if (listed := _listed(sample, life)) is not None:
        return listed
    before, after = life.residual_bytes.get(sample.uuid), residual_bytes(sample)
    if before is None or isinstance(after, Missing) or after <= before + TOLERANCE_BYTES:
        return None
    return f"{format_size(after - before)} more than before it started are held by nobody"


def _listed(sample: GpuSample, life: Life) -> str | None:
    pids = () if isinstance(sample.processes, Missing) else tuple(one.pid for one in sample.processes)
    listed = life.identity is not None and life.identity.pid in pids
    return f"the driver still lists pid {life.identity.pid}" if listed and life.identity else None


def _quarantine(scratch: Scratch, worker: WorkerMemory, uuid: str, why: str) -> None:
    life, begun = worker.life, worker.stop
    before = life.residual_bytes.get(uuid, 0) if life else 0
    gone_s = scratch.now_s - (begun.exited_s if begun and begun.exited_s else scratch.now_s)
    reason = f"{worker.name} ended {gone_s:.0f} s ago, and {why}"
    past = scratch.gpus.get(uuid, GpuMemory())
    scratch.gpus[uuid] = replace(past, quarantine=reason, residual_limit_bytes=before + TOLERANCE_BYTES)
    scratch.tell(
        Notice("error", "gpu quarantined", reason, worker=worker.name, gpu=uuid, cause=Cause.GPU_FAULT)
    )


def finish(scratch: Scratch, worker: WorkerMemory, life: Life, begun: Stop) -> WorkerMemory:
    """End a life: forget it, count it, and say what follows."""
    now_s = scratch.now_s
    scratch.do(Forget(worker.name, life.run, "all of it is given back"))
    above = _lives_above_cap(worker, life, begun)
    learned = learn(worker.learned, life, begun)
    worker = replace(worker, life=None, stop=None, above_cap_lives=above, learned=learned, waits_for=None)
    if begun.then is After.REMOVE:
        scratch.put(worker)
        scratch.tell(_ended(worker, life, begun, "removed"))
        return scratch.put(replace(scratch.step(worker, Event.REST), incident=None, down_for=None))
    if begun.then in RESTS or not worker.wanted or scratch.stopping:
        done = begun.reason if begun.then is After.DONE else None
        scratch.put(worker)
        scratch.tell(_ended(worker, life, begun, "stopped" if done is None else "done"))
        return scratch.put(replace(scratch.step(worker, Event.REST), incident=None, down_for=None, done=done))
    last = LastRestart(begun.cause, begun.reason, scratch.snapshot.wall_s)
    worker = replace(worker, last=last)
    held = begun.reason if begun.then is After.HOLD else None
    if held is None and begun.counts:
        worker, held = _count(scratch, worker, life, begun)
    elif held is None:
        worker = replace(worker, retry_s=now_s)
    if begun.cause is Cause.LADDER:
        worker = replace(worker, rung=rung_above(worker, life.plan))
    if held is not None:
        return hold(scratch, worker, held, begun.cause)
    by_cause = {**worker.restarts_by, begun.cause: worker.restarts_by.get(begun.cause, 0) + 1}
    counted = replace(worker, restarts=worker.restarts + 1, restarts_by=by_cause)
    worker = scratch.step(scratch.put(counted), Event.RETRY)
    if (wait_s := worker.retry_s - now_s) > 0:
        worker = scratch.put(replace(worker, waits_for=f"backoff of {format_span(round(wait_s, 1))}"))
    return worker


def _ended(worker: WorkerMemory, life: Life, begun: Stop, outcome: str) -> Notice:
    fields = {"run": life.run}
    return Notice(
        "info",
        f"worker {outcome}",
        begun.reason,
        worker=worker.name,
        cause=begun.cause,
        outcome=outcome,
        fields=fields,
    )


def _lives_above_cap(worker: WorkerMemory, life: Life, begun: Stop) -> int:
    if begun.cause is not Cause.MEMORY_CAP:
        return worker.above_cap_lives if begun.cause in {Cause.OPERATOR, Cause.RELOAD} else 0
    return 0 if life.was_below_cap else worker.above_cap_lives + 1


def _count(
    scratch: Scratch, worker: WorkerMemory, life: Life, begun: Stop
) -> tuple[WorkerMemory, str | None]:
    if begun.budget is Budget.LADDER:
        wait_s = delay_s(life.plan.restart, 1, f"{worker.name} {worker.lives}")
        return replace(worker, backoff=0, retry_s=scratch.now_s + wait_s), None
    healthy_s = 0.0 if life.ready_s is None else begun.began_s - life.ready_s
    counted = replace(worker, failures_s=failures_of(worker, begun.budget))
    spent = spend(counted, life.plan.restart, scratch.now_s, healthy_s=healthy_s, why=begun.reason)
    cap = format_size(life.plan.memory.cap_bytes or 0)
    above = misconfigured(worker, cap, format_size(life.last_memory_bytes or 0))
    worker = with_failures(worker, begun.budget, spent.failures_s)
    return replace(worker, backoff=spent.backoff, retry_s=spent.retry_s), above or spent.held


def hold(scratch: Scratch, worker: WorkerMemory, why: str, cause: Cause) -> WorkerMemory:
    """Hold a worker: nothing but an operator starts it again."""
    scratch.put(worker)
    scratch.tell(Notice("error", "worker held", why, worker=worker.name, cause=cause, outcome="held"))
    worker = scratch.step(worker, Event.HOLD)
    return scratch.put(replace(worker, held=why, incident=None))
