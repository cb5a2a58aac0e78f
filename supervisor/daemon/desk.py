"""What the daemon answers to operators: the desk behind the control socket."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from supervisor.act.output import Output
from supervisor.config import Fault, difference, load, this_machine
from supervisor.daemon.control_interface import NoLogFileError, UnknownWorkerError
from supervisor.daemon.history import History
from supervisor.daemon.loop import Loop
from supervisor.daemon.mailbox import Mailbox
from supervisor.daemon.options import ReloadResult
from supervisor.daemon.recent import Recent
from supervisor.daemon.service import Service
from supervisor.daemon.status import StatusContext, status_of
from supervisor.decide.alerts import statuses
from supervisor.model.action import Notice
from supervisor.model.alert import AlertStatus
from supervisor.model.course import Course
from supervisor.model.event import News
from supervisor.model.incident import Incident, IncidentDetail, Sample
from supervisor.model.news import Asked
from supervisor.model.plan import WebPlan
from supervisor.model.snapshot import HostSample, Snapshot
from supervisor.model.status import Status


class DeskParts(Struct, frozen=True):
    """What the desk works with."""

    loop: Loop
    mailbox: Mailbox
    history: History
    recent: Recent
    service: Service
    notice: Callable[[Notice], None]
    context: Callable[[str | None], StatusContext]  # given why the last reload was refused
    config: Path
    output: Output


class Desk:
    """Answers from what the loop has last seen, and hands wishes to its next turn."""

    def __init__(self, parts: DeskParts) -> None:
        """Serve this loop."""
        self._parts = parts
        self._refused: str | None = None
        self._reloading = asyncio.Lock()

    def status(self) -> Status:
        """Return the state of everything as of the last turn."""
        loop = self._parts.loop
        snapshot = loop.snapshot or Snapshot(0.0, 0.0, HostSample(0.0))
        return status_of(self._parts.context(self._refused), loop.plan, loop.memory, snapshot)

    def ask(self, asked: Asked) -> None:
        """Hand a wish to the next turn; raises UnknownWorkerError, and then nothing was taken."""
        loop = self._parts.loop
        known = set(loop.memory.workers) | {
            name for one in loop.plan.workers.values() for name in (one.name, one.base)
        }
        for name in asked.workers:
            if name not in known:
                raise UnknownWorkerError(name)
        self._parts.mailbox.tell(asked)

    async def reload(self, by: str) -> ReloadResult:
        """Read the configuration again and apply it, or refuse it whole."""
        async with self._reloading:
            self._parts.service.reloading()
            try:
                return await self._reload(by)
            finally:
                self._parts.service.ready()

    async def _reload(self, by: str) -> ReloadResult:
        path = self._parts.config
        loaded = await asyncio.to_thread(load, path, machine=this_machine())
        warnings = _lines(loaded.warnings)
        if loaded.plan is None:
            refused = _lines(loaded.faults)
            self._refused = refused[0] if len(refused) == 1 else f"{refused[0]} (and {len(refused) - 1} more)"
            self._tell("error", "configuration refused", f"the old one stays in force: {self._refused}", by)
            return ReloadResult(refused=refused, warnings=warnings)
        changes = difference(self._parts.loop.plan, loaded.plan)
        self._refused = None
        self._parts.loop.replace_plan(loaded.plan, by)
        self._tell("info", "configuration reloaded", "; ".join(changes) or "nothing has changed", by)
        return ReloadResult(changes=changes, warnings=warnings)

    def _tell(self, level: str, event: str, reason: str, by: str) -> None:
        self._parts.notice(Notice("error" if level == "error" else "info", event, reason, fields={"by": by}))

    async def incidents(
        self, worker: str | None, since_wall_s: float | None, limit: int
    ) -> tuple[Incident, ...]:
        """Return the newest incidents, newest first."""
        return await self._parts.history.incidents(worker, since_wall_s, limit)

    async def incident(self, ident: str) -> IncidentDetail | None:
        """Return one incident with its timeline, None where there is no such."""
        return await self._parts.history.incident(ident)

    async def samples(self, worker: str | None, since_wall_s: float, limit: int) -> tuple[Sample, ...]:
        """Return the newest readings of a worker, or of the host and the GPUs, oldest first."""
        return await self._parts.history.samples(worker, since_wall_s, limit)

    async def courses(self, since_wall_s: float, slot_s: int) -> tuple[Course, ...]:
        """Return the course of everything since a moment, in slots of `slot_s`."""
        return await self._parts.history.courses(since_wall_s, slot_s)

    def news(self, epoch: str | None, after: int, limit: int) -> News:
        """Return what was told after the `after`th thing of `epoch`."""
        return self._parts.recent.since(epoch, after, limit)

    def alerts(self) -> tuple[AlertStatus, ...]:
        """Return the alerts as of the last turn: those that fire or are pending, then the last resolved."""
        loop = self._parts.loop
        return () if loop.snapshot is None else statuses(loop.plan, loop.memory, loop.snapshot)

    def web(self) -> WebPlan:
        """Return how the web face is configured."""
        return self._parts.loop.plan.web

    def log_file(self, worker: str) -> str:
        """Return the path of the worker's output; raises UnknownWorkerError, NoLogFileError."""
        if worker not in self._parts.loop.memory.workers:
            raise UnknownWorkerError(worker)
        path = self._parts.output.path(worker)
        if path is None:
            raise NoLogFileError(worker)
        return str(path)


def _lines(faults: tuple[Fault, ...]) -> tuple[str, ...]:
    return tuple(str(fault) for fault in faults)
