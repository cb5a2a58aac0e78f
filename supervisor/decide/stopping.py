"""How a worker is brought down: drain, stop signal, the stop signal again, SIGKILL to what is left.

Each step is a decision of its own turn, so a slow stop of one worker delays nobody else.
"""

from signal import Signals
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from supervisor.decide.lifecycle import GOING, Event
from supervisor.decide.scratch import Scratch
from supervisor.model.action import Kill, Notice, Probe, Signal
from supervisor.model.memory import After, Budget, Life, Stop, WorkerMemory
from supervisor.model.phase import Cause, Phase
from supervisor.model.plan import CommandTarget, GuardTarget, LlamaTarget

# Between two looks at whether a worker is idle. Polling a llama.cpp server's slots more often than
# once a second keeps it from noticing that a client has gone (measured: research on llama.cpp 0.7.0).
DRAIN_PROBE_S: Final = 0.5
LLAMA_DRAIN_PROBE_S: Final = 1.2
DRAIN_PROBE_TIMEOUT_S: Final = 5.0
# A tree can grow while it is killed: whatever is still there is killed again this much later.
KILL_AGAIN_S: Final = 0.25
# What follows a stop after which it stays stopped.
RESTS: Final = frozenset({After.REST, After.DONE})
# Beyond this, people are told that SIGKILL does not end it.
UNKILLABLE_S: Final = 30.0


class Order(Struct, frozen=True):
    """A stop that was decided on."""

    cause: Cause
    reason: str
    then: After
    drain: bool = True
    kill: bool = False  # at once, without a stop signal
    grace_s: float | None = None  # instead of the worker's stop_timeout
    counts: bool = False  # against the restart budget
    budget: Budget = Budget.ORDINARY


def stop(scratch: Scratch, worker: WorkerMemory, order: Order) -> WorkerMemory:
    """Begin a stop, or hasten the one that is under way; what follows it is the newer order's."""
    if worker.life is None:
        return worker
    life = worker.life
    if worker.stop is None:
        worker = _open(scratch, worker, order)
    elif worker.stop.then is not order.then:
        worker = scratch.put(replace(worker, stop=replace(worker.stop, then=order.then)))
    if order.kill:
        return kill(scratch, worker, order.reason)
    if order.drain and life.plan.drain is not None and worker.phase is Phase.READY:
        return _drain(scratch, worker, life)
    if order.drain and worker.phase is Phase.DRAINING:
        return worker
    return signal(scratch, worker, order.reason, order.grace_s)


def _open(scratch: Scratch, worker: WorkerMemory, order: Order) -> WorkerMemory:
    incident = worker.incident or (worker.life.run if worker.life else "")
    begun = Stop(
        cause=order.cause,
        reason=order.reason,
        then=order.then,
        began_s=scratch.now_s,
        incident=incident,
        counts=order.counts,
    )
    down_for = worker.down_for or order.cause
    return scratch.put(replace(worker, stop=begun, incident=incident, down_for=down_for, pending=None))


def _drain(scratch: Scratch, worker: WorkerMemory, life: Life) -> WorkerMemory:
    rule, begun = life.plan.drain, worker.stop
    if rule is None or begun is None:
        return worker
    worker = scratch.step(worker, Event.DRAIN)
    due_s = None if isinstance(rule.target, GuardTarget) else scratch.now_s  # a guard tells by itself
    worker = scratch.put(
        replace(
            worker,
            stop=replace(begun, drain_by_s=scratch.now_s + rule.timeout_s),
            life=replace(life, probe_due_s=due_s, probe_sent_s=None),
        )
    )
    scratch.tell(
        Notice(
            "info",
            "worker draining",
            begun.reason,
            worker=worker.name,
            cause=begun.cause,
            fields={"timeout_s": rule.timeout_s, "memory_bytes": life.last_memory_bytes},
        )
    )
    return worker


def signal(scratch: Scratch, worker: WorkerMemory, reason: str, grace_s: float | None) -> WorkerMemory:
    """Send the stop signal, unless it was sent; a shorter grace shortens the wait for SIGKILL."""
    life, begun, now_s = worker.life, worker.stop, scratch.now_s
    if life is None or begun is None or worker.phase in {Phase.KILLING, Phase.RECLAIMING}:
        return worker
    plan = life.plan
    kill_s = now_s + (plan.stop_timeout_s if grace_s is None else grace_s)
    if worker.phase is Phase.STOPPING:
        if grace_s is not None and begun.kill_s is not None and kill_s < begun.kill_s:
            return scratch.put(replace(worker, stop=replace(begun, kill_s=kill_s)))
        return worker
    worker = scratch.step(worker, Event.SIGNAL)
    again_s = None if plan.stop_again_s is None else now_s + plan.stop_again_s
    begun = replace(begun, signalled_s=now_s, kill_s=kill_s, again_s=again_s)
    life = replace(life, probe_due_s=None, probe_sent_s=None, sample_s=None)
    worker = scratch.put(replace(worker, stop=begun, life=life))
    scratch.do(Signal(worker.name, life.run, plan.stop_signal, reason))
    scratch.tell(
        Notice(
            "info",
            "worker stopping",
            reason,
            worker=worker.name,
            cause=begun.cause,
            fields={
                "signal": signal_name(plan.stop_signal),
                "kill_in_s": round(kill_s - now_s, 3),
                "memory_bytes": life.last_memory_bytes,
            },
        )
    )
    return worker


def kill(scratch: Scratch, worker: WorkerMemory, reason: str) -> WorkerMemory:
    """Send SIGKILL to the whole tree, now."""
    life, begun = worker.life, worker.stop
    if life is None or begun is None or worker.phase in {Phase.KILLING, Phase.RECLAIMING}:
        return worker
    worker = scratch.step(worker, Event.KILL)
    begun = replace(begun, kill_s=scratch.now_s, killed_s=scratch.now_s)
    life = replace(life, probe_due_s=None, probe_sent_s=None, sample_s=None)
    worker = scratch.put(replace(worker, stop=begun, life=life))
    scratch.do(Kill(worker.name, life.run, reason))
    scratch.tell(Notice("warning", "worker killing", reason, worker=worker.name, cause=begun.cause))
    return worker


def advance(scratch: Scratch, worker: WorkerMemory) -> WorkerMemory:
    """Take the next step of a stop whose time has come."""
    life, begun, now_s = worker.life, worker.stop, scratch.now_s
    if life is None or begun is None:
        return worker
    if worker.phase is Phase.DRAINING:
        return _advance_drain(scratch, worker, life, begun)
    if worker.phase is Phase.STOPPING:
        return _advance_signal(scratch, worker, life, begun)
    if worker.phase is Phase.KILLING and now_s >= (begun.killed_s or now_s) + KILL_AGAIN_S:
        return _kill_again(scratch, worker, life, begun)
    return worker


def _kill_again(scratch: Scratch, worker: WorkerMemory, life: Life, begun: Stop) -> WorkerMemory:
    scratch.do(Kill(worker.name, life.run, "still there after SIGKILL"))
    if not begun.overdue and scratch.now_s >= (begun.kill_s or scratch.now_s) + UNKILLABLE_S:
        text = f"it does not end {UNKILLABLE_S:.0f} s after SIGKILL (it hangs in the kernel, or in a driver)"
        scratch.tell(Notice("error", "worker unkillable", text, worker=worker.name, cause=begun.cause))
        begun = replace(begun, overdue=True)
    return scratch.put(replace(worker, stop=replace(begun, killed_s=scratch.now_s)))


def _advance_drain(scratch: Scratch, worker: WorkerMemory, life: Life, begun: Stop) -> WorkerMemory:
    now_s, rule = scratch.now_s, life.plan.drain
    if rule is None or begun.drain_by_s is None or now_s >= begun.drain_by_s:
        return signal(scratch, worker, f"{begun.reason}; not idle within the drain timeout", None)
    if isinstance(rule.target, GuardTarget):
        drained = life.report is not None and life.report.drained
        return signal(scratch, worker, begun.reason, None) if drained else worker
    if life.probe_due_s is None or now_s < life.probe_due_s:
        return worker
    left_s = max(begun.drain_by_s - now_s, 0.1)
    # A command may itself wait until the worker is idle; a server that does not answer is asked again.
    timeout_s = left_s if isinstance(rule.target, CommandTarget) else min(DRAIN_PROBE_TIMEOUT_S, left_s)
    scratch.do(Probe(worker.name, life.run, "drain", rule.target, timeout_s, "is it idle?"))
    return scratch.put(replace(worker, life=replace(life, probe_due_s=None, probe_sent_s=now_s)))


def drained(scratch: Scratch, worker: WorkerMemory, *, idle: bool, detail: str) -> WorkerMemory:
    """Take the answer of a drain probe: idle goes on to the stop signal, busy is asked again."""
    life, begun = worker.life, worker.stop
    if worker.phase is not Phase.DRAINING or life is None or begun is None:
        return worker
    if idle:
        return signal(scratch, worker, begun.reason, None)
    llama = life.plan.drain is not None and isinstance(life.plan.drain.target, LlamaTarget)
    due_s = scratch.now_s + (LLAMA_DRAIN_PROBE_S if llama else DRAIN_PROBE_S)
    scratch.tell(Notice("debug", "worker busy", detail, worker=worker.name, cause=begun.cause))
    return scratch.put(replace(worker, life=replace(life, probe_due_s=due_s, probe_sent_s=None)))


def _advance_signal(scratch: Scratch, worker: WorkerMemory, life: Life, begun: Stop) -> WorkerMemory:
    now_s = scratch.now_s
    if begun.kill_s is not None and now_s >= begun.kill_s:
        waited_s = now_s - (begun.signalled_s or now_s)
        return kill(scratch, worker, f"{begun.reason}; still running {waited_s:.0f} s after the stop signal")
    if begun.again_s is not None and now_s >= begun.again_s:
        scratch.do(Signal(worker.name, life.run, life.plan.stop_signal, "the stop signal, a second time"))
        scratch.tell(
            Notice("info", "worker signalled again", begun.reason, worker=worker.name, cause=begun.cause)
        )
        return scratch.put(replace(worker, stop=replace(begun, again_s=None)))
    return worker


def hasten(scratch: Scratch, worker: WorkerMemory, reason: str) -> WorkerMemory:
    """Kill a worker that is going already, or one that is not, because somebody is in a hurry."""
    if worker.phase not in GOING:
        return stop(scratch, worker, Order(Cause.OPERATOR, reason, After.REST, kill=True))
    return kill(scratch, worker, reason)


def signal_name(signum: int) -> str:
    """Return the name of a signal, as SIGTERM."""
    try:
        return Signals(signum).name
    except ValueError:
        return f"signal {signum}"
