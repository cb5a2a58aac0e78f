"""A worker that is gone, or was never there: what it died of, and what follows from that."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from supervisor.decide.descent import Spent, go_down, starved_gpus
from supervisor.decide.kernel import with_oom_kill, xid_behind
from supervisor.decide.ladder import footing_of
from supervisor.decide.lifecycle import Event
from supervisor.decide.reckoning import starved
from supervisor.decide.reclaim import RECLAIM_S
from supervisor.decide.reports import poison
from supervisor.decide.scratch import Scratch
from supervisor.decide.stopping import Order, signal_name
from supervisor.model.action import Field, Level, Notice
from supervisor.model.memory import After, Budget, GpuMemory, Life, Stop, WorkerMemory
from supervisor.model.news import Exited, LaunchFailed
from supervisor.model.phase import Cause
from supervisor.model.plan import HttpTarget, LlamaTarget, NotifyTarget, TcpTarget
from supervisor.model.verdict import Death

SIGBUS: Final = 7


class Ending(Struct, frozen=True):
    """What an end comes to."""

    cause: Cause
    what: str = ""  # its verdict, in words
    how: str = ""
    then: After = After.RESTART
    budget: Budget = Budget.ORDINARY


FINDINGS: Final[Mapping[Death, Ending]] = {
    Death.VRAM_OOM: Ending(Cause.VRAM_OOM, "out of GPU memory", budget=Budget.OOM),
    Death.HOST_OOM: Ending(Cause.HOST_OOM, "it was refused memory", budget=Budget.OOM),
    Death.BAD_MODEL: Ending(Cause.EXIT, "its model cannot be loaded", then=After.HOLD),
    Death.BAD_ARGUMENTS: Ending(Cause.EXIT, "it does not take its arguments", then=After.HOLD),
    Death.PORT_IN_USE: Ending(Cause.EXIT, "it cannot listen on its port", budget=Budget.PORT),
    Death.POISONED: Ending(Cause.GPU_FAULT, "its context on the GPU was lost", budget=Budget.GPU),
    Death.HARDWARE: Ending(Cause.GPU_FAULT, "its GPU failed", budget=Budget.GPU),
}


def launch_failed(scratch: Scratch, worker: WorkerMemory, news: LaunchFailed) -> None:
    """Take that a worker could not be launched."""
    then = After.HOLD if news.hopeless else After.RESTART
    reason = f"{news.why}; `gpu-supervisor reset {worker.name}` tries again" if news.hopeless else news.why
    _end_unasked(scratch, worker, Order(Cause.EXIT, reason, then, counts=True))


def exited(scratch: Scratch, worker: WorkerMemory, life: Life, news: Exited) -> None:
    """Take the end of a worker's main process, asked for or not."""
    news = with_oom_kill(life, news, scratch.now_s, asked=worker.stop is not None)
    ending = _ending(life, news, xid_behind(life, news, scratch.now_s))
    fields = {f"memory_events_{name}": count for name, count in news.counters.items() if count}
    oom = ending.budget is Budget.OOM
    if oom:
        footing = worker.footing or footing_of(life.plan, life.gpus)
        spent = starved(worker, life, device=ending.cause is Cause.VRAM_OOM)
        worker = replace(
            worker,
            oom_events=worker.oom_events + 1,
            footing=footing,
            starved=spent,
            starved_gpus=starved_gpus(worker, life, device=ending.cause is Cause.VRAM_OOM),
        )
        scratch.put(worker)
    begun = worker.stop
    if begun is None:
        reason = f"{ending.how} after {scratch.now_s - life.launched_s:.1f} s"
        if ending.what:
            reason += f"{_when(life)}: {ending.what}"
        if _is_done(worker, life, news, ending):
            scratch.put(replace(worker, wanted=False))
            order = Order(ending.cause, reason, After.DONE)
        else:
            order = _what_follows(scratch, worker, life, news, replace(ending, how=reason))
        _end_unasked(scratch, scratch.workers[worker.name], order, fields)
        return
    if oom and begun.cause is Cause.MEMORY_CAP:  # the kernel was quicker
        order = _what_follows(scratch, worker, life, news, ending)
        then = begun.then if begun.then is not After.RESTART else order.then
        reason = f"{order.reason}; {begun.reason}"
        begun = replace(begun, cause=order.cause, reason=reason, then=then, budget=order.budget)
        worker = scratch.workers[worker.name]
    notice = Notice("info", "worker exited", ending.how, worker=worker.name, cause=begun.cause, fields=fields)
    scratch.tell(notice)
    _gone(scratch, worker, begun)


def _ending(life: Life, news: Exited, xid: str | None) -> Ending:
    """Put an end into words; the kernel's own word counts before the worker's last lines.

    `xid` is that of its GPU just before: the cause where nothing else tells one.
    """
    detail = f" ({news.detail})" if news.detail else ""
    if news.oom_kill:
        how = f"killed by the kernel's OOM killer{detail}"
        return Ending(Cause.HOST_OOM_KILL, how=how, budget=Budget.OOM)
    cause, how = _status(news, detail)
    if (text := poison(life, news)) is not None:
        found = FINDINGS[Death.POISONED]
    elif news.verdict is not None:
        found, text = FINDINGS[news.verdict.death], news.verdict.line
    elif xid is not None:
        return Ending(Cause.GPU_FAULT, xid, how, budget=Budget.GPU)
    else:
        return Ending(cause, how=how)
    also = f"; {xid}" if xid is not None and found.cause is Cause.GPU_FAULT else ""
    return replace(found, how=how, what=f"{found.what}: {text}{also}")


def _status(news: Exited, detail: str) -> tuple[Cause, str]:
    if news.signal == SIGBUS:
        cut = " (a file that it had mapped, its model say, was cut or cannot be read)"
        return Cause.CRASH, f"killed by SIGBUS{cut}{detail}"
    if news.signal is not None:
        return Cause.CRASH, f"killed by {signal_name(news.signal)}{detail}"
    if news.code is None:
        return Cause.EXIT, f"ended while nobody could see how{detail}"
    return Cause.EXIT, f"exited with status {news.code}{detail}"


def _what_follows(scratch: Scratch, worker: WorkerMemory, life: Life, news: Exited, ending: Ending) -> Order:
    """Return what follows an end: the next rung, nothing before an operator says so, or the same again."""
    if ending.budget is Budget.OOM:
        return _one_rung_down(scratch, worker, life, ending)
    reason, budget = ending.how, ending.budget
    if ending.then is After.HOLD and not _has_served(life):
        reason = f"{reason}; `gpu-supervisor reset {worker.name}` tries again"
        return Order(ending.cause, reason, After.HOLD, counts=True)
    if news.verdict is not None and news.verdict.death is Death.HARDWARE:
        reason += _quarantine(scratch, worker, life, news.verdict.line)
    return Order(ending.cause, reason, After.RESTART, counts=True, budget=budget)


def _when(life: Life) -> str:
    if _has_served(life):
        return ", serving"
    return ", starting" if life.ready_s is None else ""


def _is_done(worker: WorkerMemory, life: Life, news: Exited, ending: Ending) -> bool:
    """Say whether a worker has ended because its work is done: by itself, and with status 0.

    An end that nobody saw has no status, and one that was to be restarted is; neither is done.
    """
    restart = worker.pending is not None and worker.pending.cause in {Cause.OPERATOR, Cause.RELOAD}
    good = news.code == 0 and ending.cause is Cause.EXIT and not ending.what
    return good and life.plan.restart.on == "failure" and not restart


def _has_served(life: Life) -> bool:
    """Say whether it was seen to be ready: what it served with then, a bad model say, it did not die of."""
    proof = isinstance(life.plan.ready, HttpTarget | TcpTarget | NotifyTarget | LlamaTarget)
    return proof and life.ready_s is not None


def _one_rung_down(scratch: Scratch, worker: WorkerMemory, life: Life, ending: Ending) -> Order:
    spent = Spent(device=ending.cause is Cause.VRAM_OOM, served=_has_served(life))
    step = go_down(scratch, worker, life, spent)
    reason = f"{ending.how}; {step.words}"
    if step.same:
        then = After.HOLD if step.held else After.RESTART
        return Order(ending.cause, reason, then, counts=True, budget=Budget.OOM)
    return Order(ending.cause, reason, After.RESTART, counts=True, budget=Budget.LADDER)


def _quarantine(scratch: Scratch, worker: WorkerMemory, life: Life, line: str) -> str:
    """Trust the GPU of a worker no longer that its last lines call broken; return that in words.

    Which of several it is, the lines do not tell in a way that can be relied on.
    """
    gpus = tuple(dict.fromkeys((*life.gpus, *life.seen_gpus)))
    if len(gpus) != 1:
        return "; which GPU it was is not known, so none is quarantined"
    past = scratch.gpus.get(gpus[0], GpuMemory())
    why = (
        f"{worker.name} ended by a fault of it: {line}; `gpu-supervisor reset {worker.name}` trusts it again"
    )
    if past.quarantine is None:
        scratch.gpus[gpus[0]] = replace(past, quarantine=why, until_reset=True)
        told = Notice("error", "gpu quarantined", why, worker=worker.name, gpu=gpus[0], cause=Cause.GPU_FAULT)
        scratch.tell(told)
    return f"; GPU {gpus[0]} is quarantined"


def _end_unasked(
    scratch: Scratch, worker: WorkerMemory, order: Order, more: Mapping[str, Field] | None = None
) -> None:
    life = worker.life
    if worker.stop is None and life is not None:
        incident = worker.incident or life.run
        begun = Stop(
            order.cause,
            order.reason,
            order.then,
            scratch.now_s,
            incident=incident,
            counts=order.counts,
            budget=order.budget,
        )
        down_for = worker.down_for or order.cause
        worker = replace(worker, stop=begun, incident=incident, down_for=down_for, pending=None)
        worker = scratch.put(worker)
        fields = {"memory_bytes": life.last_memory_bytes, "run": life.run, **(more or {})}
        level: Level = "info" if order.then is After.DONE else "warning"
        notice = Notice(
            level, "worker exited", order.reason, worker=worker.name, cause=order.cause, fields=fields
        )
        scratch.tell(notice)
    if worker.stop is not None:
        _gone(scratch, worker, worker.stop)


def _gone(scratch: Scratch, worker: WorkerMemory, begun: Stop) -> None:
    now_s = scratch.now_s
    worker = scratch.step(worker, Event.EXITED)
    if begun.exited_s is None:
        begun = replace(begun, exited_s=now_s, reclaim_by_s=now_s + RECLAIM_S)
        scratch.put(replace(worker, stop=begun))
