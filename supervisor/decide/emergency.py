"""When the machine itself is short of memory: one victim at a time, until there is enough again."""

from typing import Final

from msgspec.structs import replace

from supervisor.decide.lifecycle import LIVING
from supervisor.decide.pressure import HostJudgement, judge_host, watch_stalls
from supervisor.decide.scratch import Scratch
from supervisor.decide.stopping import Order, hasten, stop
from supervisor.decide.victims import Candidate, choose, why_chosen
from supervisor.model.action import Level, Notice
from supervisor.model.memory import After, Life, WorkerMemory
from supervisor.model.phase import Cause, Phase, Pressure
from supervisor.model.reading import Missing

GRACE_S: Final = 2.0
# MemAvailable follows the end of a process at once, but its readers are not in step: earlyoom#121
# and #309 killed several because the memory came back late.
SETTLE_S: Final = 0.5
# A stall is an average of 10 s: the next victim waits until this one's end can show in it.
STALL_SETTLE_S: Final = 15.0
# A victim that SIGKILL does not end within this (it hangs in a driver) no longer protects the others:
# earlyoom waits as long.
PATIENCE_S: Final = 10.0
URGENT: Final = frozenset({Pressure.CRITICAL, Pressure.EXTREME})


def watch_host(scratch: Scratch) -> None:
    """Judge the host's memory, tell a change of its level, and end a victim where there must be one."""
    sample = scratch.snapshot.host
    scratch.host = watch_stalls(scratch.plan.host, sample, scratch.host)
    judged = judge_host(scratch.plan.host, sample, scratch.host)
    if judged is None:
        scratch.blind = True
        return
    if judged.level is not scratch.host.pressure:
        _tell(scratch, judged)
        helpless = scratch.host.helpless and judged.level in URGENT
        scratch.host = replace(scratch.host, pressure=judged.level, helpless=helpless)
    if judged.level in URGENT:
        _relieve(scratch, judged)
    elif scratch.host.victim is not None and not _holds(scratch, scratch.host.victim):
        scratch.host = replace(scratch.host, victim=None)


def _tell(scratch: Scratch, judged: HostJudgement) -> None:
    level: Level = "info" if judged.level is Pressure.NORMAL else "warning"
    if judged.level in URGENT:
        level = "error"
    scratch.tell(Notice(level, f"host memory {judged.level}", judged.reason))


def _relieve(scratch: Scratch, judged: HostJudgement) -> None:
    extreme = judged.level is Pressure.EXTREME
    if _under_way(scratch, judged, extreme=extreme):
        return
    victim = choose(_candidate(scratch, worker, life) for worker, life in _endable(scratch))
    if victim is None:
        if not scratch.host.helpless:
            text = f"{judged.reason}, and no worker is left to end: something else takes the memory"
            scratch.tell(Notice("error", "host memory helpless", text))
            scratch.host = replace(scratch.host, helpless=True)
        return
    reason = f"host has {judged.reason}; {why_chosen(victim)}"
    scratch.host = replace(scratch.host, victim=victim.name, victim_s=scratch.now_s)
    order = Order(
        Cause.HOST_MEMORY, reason, After.RESTART, drain=False, kill=extreme, grace_s=GRACE_S, counts=True
    )
    worker = scratch.workers[victim.name]
    if worker.stop is not None:  # it is going already: what follows stays as it was
        order = replace(order, then=worker.stop.then)
    stop(scratch, worker, order)


def _under_way(scratch: Scratch, judged: HostJudgement, *, extreme: bool) -> bool:
    """Say whether a victim is still to give back its memory; hasten it if things got worse."""
    past = scratch.host
    if past.victim is None:
        return False
    worker = scratch.workers.get(past.victim)
    if worker is not None and _holds(scratch, past.victim):
        if extreme and worker.phase is Phase.STOPPING:
            hasten(scratch, worker, f"host has {judged.reason}")
        scratch.host = replace(past, victim_s=scratch.now_s)
        return True
    settle_s = STALL_SETTLE_S if judged.by_stall else SETTLE_S
    if scratch.now_s - past.victim_s < settle_s:
        return True
    scratch.host = replace(past, victim=None)
    return False


def _holds(scratch: Scratch, name: str) -> bool:
    """Say whether a victim is on its way, and its memory still worth waiting for."""
    worker = scratch.workers.get(name)
    if worker is None or worker.stop is None:
        return False
    if worker.phase is Phase.STOPPING:
        return True  # until SIGKILL, which is at most GRACE_S away
    if worker.phase is Phase.RECLAIMING:
        gone_s, seen = worker.stop.exited_s or 0.0, scratch.sighting(worker)
        if seen is not None and seen.read_s >= gone_s and not seen.pids:
            return False  # what it still waits for is memory of a GPU
        return scratch.now_s - gone_s < PATIENCE_S
    return worker.phase is Phase.KILLING and scratch.now_s - (worker.stop.kill_s or 0.0) < PATIENCE_S


def _endable(scratch: Scratch) -> list[tuple[WorkerMemory, Life]]:
    ending = {Phase.KILLING, Phase.RECLAIMING}
    return [
        (worker, life)
        for worker, life in scratch.living()
        if worker.phase in LIVING and worker.phase not in ending and life.identity is not None
    ]


def _candidate(scratch: Scratch, worker: WorkerMemory, life: Life) -> Candidate:
    seen = scratch.sighting(worker)  # of this very turn: what was weighed last is older, or of nobody yet
    now = None if seen is None or isinstance(seen.memory_bytes, Missing) else seen.memory_bytes
    cap, size = life.plan.memory.cap_bytes, (life.last_memory_bytes or 0) if now is None else now
    return Candidate(
        name=worker.name,
        memory_bytes=size,
        over_cap=cap is not None and size > cap,
        priority=life.plan.priority,
        idle=False,
        launched_s=life.launched_s,
    )
