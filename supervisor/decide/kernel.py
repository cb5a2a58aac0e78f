"""What the kernel's log says: Xids of GPUs, and who was killed for want of memory.

What it says of a process is evidence of why a worker ends, and never a reason to end one.
"""

from typing import Final

from msgspec.structs import replace

from supervisor.decide.scratch import Scratch
from supervisor.model.action import Notice
from supervisor.model.memory import GpuMemory, LastXid, Life, WorkerMemory
from supervisor.model.news import Exited, OomKilled, XidSeen
from supervisor.model.phase import Cause
from supervisor.model.quantity import format_size
from supervisor.model.xid import XidKind, kind_of, words_for

# What ends by itself so soon after an Xid, or after the kernel has killed a child of it, ends of that. A CUDA
# program gets its error with the next call; one that waits for the GPU, with the driver's own timeouts.
SOON_S: Final = 10.0
TOLD_AGAIN_S: Final = 60.0  # the same code of the same GPU: an Xid can come a thousand times a second
# SIGHUP, SIGINT, SIGKILL, SIGTERM: of somebody else. Nothing dies of a GPU by these, and Xid 43 and 45 follow
# where a process is killed that computes.
OF_OTHERS: Final = frozenset({1, 2, 9, 15})


def hear_xid(scratch: Scratch, news: XidSeen) -> None:
    """Count an Xid, tell it, and trust its GPU no longer where the hardware is at fault."""
    key = news.gpu or news.bus_id
    past = scratch.gpus.get(key, GpuMemory())
    if past.last_xid is not None and news.seq <= past.last_xid.seq:
        return  # an earlier daemon has counted it
    kind = kind_of(news.code, news.text)
    wall_s = scratch.snapshot.wall_s - max(0.0, scratch.now_s - news.at_s)
    last = LastXid(news.code, news.text, wall_s, news.seq)
    now = replace(past, xids=past.xids + news.count, last_xid=last)
    told_s = past.xids_told_s.get(news.code)
    fresh = told_s is None or scratch.now_s - told_s >= TOLD_AGAIN_S
    if fresh:
        now = replace(now, xids_told_s={**past.xids_told_s, news.code: scratch.now_s})
    scratch.gpus[key] = now
    hardware = kind is XidKind.HARDWARE
    quarantines = hardware and news.gpu is not None and not now.until_reset
    incident = f"xid-{news.bus_id}-{wall_s:.0f}-{news.seq}" if hardware else None
    if fresh:
        scratch.tell(replace(_notice(news, closed=not quarantines), incident=incident))
    if quarantines:
        _quarantine(scratch, news, key, incident)
    if kind is not XidKind.NOTE:
        _remember(scratch, news, kind)


def _notice(news: XidSeen, *, closed: bool) -> Notice:
    """Put an Xid into words; one of the hardware is an incident, `closed` where nothing follows."""
    by = "" if news.pid is None else f"; pid {news.pid}{f', of {news.worker}' if news.worker else ''}"
    notice = Notice(
        "warning",
        "gpu xid",
        f"{_words(news)}{by}",
        worker=news.worker,
        gpu=news.gpu or news.bus_id,
        cause=Cause.GPU_FAULT,
        fields={"xid": news.code, "bus_id": news.bus_id, "count": news.count},
    )
    if kind_of(news.code, news.text) is not XidKind.HARDWARE:
        return notice
    outcome = "its GPU was quarantined before"
    if news.gpu is None:
        outcome = "nothing is quarantined: no GPU is known at that address"
    return replace(notice, level="error", outcome=outcome if closed else None)


def _words(news: XidSeen) -> str:
    return f"{words_for(news.code)}: {news.text}" if news.text else words_for(news.code)


def _quarantine(scratch: Scratch, news: XidSeen, gpu: str, incident: str | None) -> None:
    names = {gpu, scratch.samples[gpu].index} if gpu in scratch.samples else {gpu}
    choices = ((one.name, one.gpus) for one in scratch.plan.workers.values())
    who = min(
        (name for name, one in choices if one.kind != "listed" or names.intersection(one.listed)),
        default="WORKER",
    )
    why = f"{_words(news)}; once it was reset, `gpu-supervisor reset {who}` trusts it again"
    scratch.gpus[gpu] = replace(scratch.gpus[gpu], quarantine=why, until_reset=True)
    told = Notice("error", "gpu quarantined", why, gpu=gpu, cause=Cause.GPU_FAULT, incident=incident)
    scratch.tell(replace(told, outcome="it is quarantined"))


def _remember(scratch: Scratch, news: XidSeen, kind: XidKind) -> None:
    """Note it for the worker whose process it names, and one of the hardware for all that use the GPU."""
    for worker, life in scratch.living():
        shared = kind is XidKind.HARDWARE and news.gpu in {*life.gpus, *life.seen_gpus}
        if life.run == news.run or shared:
            scratch.put(replace(worker, life=replace(life, xid=_first(life.xid, news, kind))))


def _first(former: XidSeen | None, news: XidSeen, kind: XidKind) -> XidSeen:
    """Return what counts of two Xids: the first cause, which 45 say follows, but the hardware before all."""
    if former is None or news.at_s - former.at_s > SOON_S:
        return news
    worse = kind is XidKind.HARDWARE and kind_of(former.code, former.text) is not XidKind.HARDWARE
    return news if worse else replace(former, at_s=news.at_s)


def hear_oom_kill(scratch: Scratch, worker: WorkerMemory, life: Life, news: OomKilled) -> None:
    """Take that the kernel has killed a process of a worker; that of its main one is told with its end.

    Of several that go together, as with memory.oom.group, one is told.
    """
    former = life.oom_kill
    if former is None or news.pid == former.pid or not _is_main(life, former):
        scratch.put(replace(worker, life=replace(life, oom_kill=news)))
    just_told = former is not None and news.at_s - former.at_s <= SOON_S
    if worker.stop is not None or just_told or _is_main(life, news):
        return
    scratch.tell(
        Notice("warning", "process oom-killed", _killed(news), worker=worker.name, cause=Cause.HOST_OOM_KILL)
    )


def _is_main(life: Life, killed: OomKilled) -> bool:
    return life.identity is not None and life.identity.pid == killed.pid


def _killed(killed: OomKilled) -> str:
    """Return what the kernel's log says of a kill: whom, for want of whose memory, and what it held."""
    sizes = (("anon", killed.anon_bytes), ("file", killed.file_bytes), ("shmem", killed.shmem_bytes))
    held = ", ".join(f"{name} {format_size(size)}" for name, size in sizes if size is not None)
    of = "" if killed.scope is None else f" for want of memory of {killed.scope}"
    return f"pid {killed.pid} ({killed.name}) killed{of}{f'; it held {held}' if held else ''}"


def with_oom_kill(life: Life, news: Exited, now_s: float, *, asked: bool) -> Exited:
    """Return an end with what the kernel's log says of it: that its OOM killer was it, and the sizes.

    A main process that fails, and was not `asked` to end, once a child of it was killed so ends of that too.
    """
    killed = life.oom_kill
    if killed is None:
        return news
    failed = not asked and (news.signal is not None or news.code != 0)
    if not _is_main(life, killed) and not (failed and now_s - killed.at_s <= SOON_S):
        return news
    detail = f"{news.detail}; {_killed(killed)}" if news.detail else _killed(killed)
    return replace(news, oom_kill=True, detail=detail)


def xid_behind(life: Life, news: Exited, now_s: float) -> str | None:
    """Return the Xid that an end follows from, in words, where the kernel's log has one; None otherwise."""
    seen = life.xid
    if seen is None or now_s - seen.at_s > SOON_S or news.code == 0 or news.signal in OF_OTHERS:
        return None
    return f"the kernel's log has {_words(seen)}"
