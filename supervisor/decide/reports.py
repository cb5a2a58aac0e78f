"""What a worker reports of itself: kept, told to people once for each change, and acted on."""

from typing import Final

from msgspec.structs import replace

from supervisor.decide.pressure import ORDER
from supervisor.decide.scratch import Scratch
from supervisor.decide.starting import become_ready
from supervisor.model.action import Field, Level, Notice
from supervisor.model.memory import Life, Told, WorkerMemory
from supervisor.model.news import Exited, Reported
from supervisor.model.phase import Pressure
from supervisor.model.plan import NotifyTarget
from supervisor.model.report import Report

# The first change is told at once, what follows within this is told together: a worker that changes its
# mind with each batch writes twelve lines a minute at most.
TELL_EVERY_S: Final = 5.0
# How a guard ends a process whose CUDA context is lost: the first status beyond those of sysexits.h.
EXIT_POISONED: Final = 79
OUT_OF_MEMORY: Final = "worker ran out of memory and goes on"
FAILED: Final = "job failed"
INCIDENTS: Final = {OUT_OF_MEMORY: "oom", FAILED: "job"}
MILD: Final = frozenset({Pressure.NORMAL, Pressure.HIGH})
OVER: Final = frozenset({"completed", "failed"})


def hear_report(scratch: Scratch, worker: WorkerMemory, life: Life, news: Reported) -> WorkerMemory:
    """Keep a report; its heartbeat and its readiness count as those of sd_notify."""
    beat_s = life.heartbeat_s if news.beat_s is None else max(news.beat_s, life.heartbeat_s or 0.0)
    life = replace(life, report=news.report, reported_s=news.heard_s, heartbeat_s=beat_s)
    worker = scratch.put(replace(worker, life=life))
    if news.report.ready and isinstance(life.plan.ready, NotifyTarget):
        return become_ready(scratch, worker, "its guard reports that it is ready")
    return worker


def poison(life: Life, news: Exited) -> str | None:
    """Return what has poisoned a worker that ended itself for it, in its own words."""
    if news.code != EXIT_POISONED or life.report is None:
        return None
    return life.report.poisoned


def tell_changes(scratch: Scratch, worker: WorkerMemory) -> WorkerMemory:
    """Tell people what has changed in the reports of a worker since they were last told."""
    life = worker.life
    if life is None or life.report is None:
        return worker
    past, now = life.told, _to_tell(life.report, life.told)
    if past.told_s is not None and scratch.now_s - past.told_s < TELL_EVERY_S:
        now = replace(past, poisoned=now.poisoned)  # the worker is about to end: this alone does not wait
    if now == past:
        return worker
    notices = _notices(worker.name, life.report, past, now)
    if notices:
        now = replace(now, told_s=scratch.now_s)
    worker = scratch.put(replace(worker, life=replace(life, told=now)))
    for notice in notices:
        scratch.tell(_kept(scratch, worker, life, notice))
    return worker


def _kept(scratch: Scratch, worker: WorkerMemory, life: Life, notice: Notice) -> Notice:
    """Make what went wrong an incident of its own, so that the history has it, where none is open."""
    if notice.level != "warning" or notice.event not in INCIDENTS or worker.incident is not None:
        return notice
    ident = f"{life.run}-{INCIDENTS[notice.event]}-{int(scratch.now_s * 1000)}"
    return replace(notice, incident=ident, outcome="it goes on")


def _to_tell(report: Report, past: Told) -> Told:
    memory, batches, job = report.memory, report.batches, report.progress
    ooms, recovered = past.oom_events, past.recoveries
    if memory is not None:
        ooms, recovered = memory.oom_events, memory.recoveries
    elif batches is not None:
        recovered = batches.recoveries
    return Told(
        level=report.level or Pressure.NORMAL,
        oom_events=ooms,
        recoveries=recovered,
        job=(job.job, job.state) if job is not None and job.job and job.state in OVER else past.job,
        poisoned=past.poisoned or report.poisoned,
        told_s=past.told_s,
    )


def _notices(worker: str, report: Report, past: Told, now: Told) -> list[Notice]:
    """Return what to say; counts that went down began anew, with another process of the worker."""
    fields: dict[str, Field] = {"oom_events": now.oom_events, "recoveries": now.recoveries}
    found: list[Notice] = []

    def say(level: Level, event: str, reason: str) -> None:
        found.append(Notice(level, event, reason, worker=worker, fields=fields))

    if now.poisoned is not None and now.poisoned != past.poisoned:
        say("error", "worker poisoned", now.poisoned)
    if now.oom_events > past.oom_events:
        times = now.oom_events - past.oom_events
        say("warning", OUT_OF_MEMORY, f"out of memory {times} times; {_memory(report)}")
    elif now.recoveries > past.recoveries:
        say("info", "worker recovered", f"{now.recoveries - past.recoveries} times; {_memory(report)}")
    if now.level is not past.level:
        up = ORDER.index(now.level) > ORDER.index(past.level)
        mild = now.level in MILD or not up
        say("info" if mild else "warning", f"worker memory {now.level}", _memory(report))
    if now.job != past.job:
        failed = now.job[1] == "failed"
        say("warning" if failed else "info", FAILED if failed else "job completed", _job(report))
    return found


def _memory(report: Report) -> str:
    """Say in words how the worker's memory stands, by itself."""
    memory = report.memory
    if memory is None or memory.usage_percent is None or memory.total_gb is None:
        return "it does not report how full its memory is"
    text = f"{memory.usage_percent:.0f}% of {memory.total_gb:.1f}GiB is used"
    return text if memory.allocated_gb is None else f"{text}, {memory.allocated_gb:.1f}GiB by it"


def _job(report: Report) -> str:
    job = report.progress
    if job is None:
        return "it says no more"
    total = "" if job.total is None else f" of {job.total}"
    return f"{job.job}, {job.done}{total} items"
