"""When a wish has come true, and when it will not: judged from what the daemon shows."""

from typing import NamedTuple

from supervisor.model.news import Wish
from supervisor.model.phase import Phase
from supervisor.model.status import WorkerStatus


class Verdict(NamedTuple):
    """How a wish ended, and the sentence for it."""

    good: bool
    text: str


def verdict(wish: Wish, before: WorkerStatus, now: WorkerStatus, *, settled: bool) -> Verdict | None:
    """Judge one worker; None while it is under way.

    `before` is the worker as it was before the wish. `settled` says that the daemon has had a turn since
    it took the wish: until then a worker that looks as it did before says nothing.
    """
    if wish == "stop":
        return _stopped(before, now, settled=settled)
    if wish == "reset":
        return _reset(before, now, settled=settled)
    if now.phase == Phase.READY and (wish == "start" or now.run != before.run):
        return Verdict(good=True, text=_ready(now))
    if now.phase == Phase.HELD and (settled or before.phase != Phase.HELD):
        return Verdict(good=False, text=_held(now))
    if now.phase == Phase.STOPPED and settled and now.done:
        return Verdict(good=True, text=f"done: {now.done}")
    if now.phase == Phase.STOPPED and settled:
        return Verdict(good=False, text="it is stopped: somebody else wants it down")
    return None


def _stopped(before: WorkerStatus, now: WorkerStatus, *, settled: bool) -> Verdict | None:
    if now.phase == Phase.STOPPED:
        return Verdict(good=True, text="stopped")
    if now.phase == Phase.HELD and (settled or before.phase != Phase.HELD):
        return Verdict(good=False, text=_held(now))
    if now.phase == Phase.READY and now.run != before.run:
        return Verdict(good=False, text="it was started again: somebody else wants it up")
    return None


def _reset(before: WorkerStatus, now: WorkerStatus, *, settled: bool) -> Verdict | None:
    if now.phase != Phase.HELD:
        return Verdict(good=True, text=f"released, {now.phase}" if before.phase == Phase.HELD else now.phase)
    return Verdict(good=False, text=_held(now)) if settled else None


def _ready(now: WorkerStatus) -> str:
    return "ready" if now.pid is None else f"ready, pid {now.pid}"


def _held(now: WorkerStatus) -> str:
    return f"held: {now.held or 'no reason is given'}"
