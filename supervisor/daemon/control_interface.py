"""The Varlink interface of the daemon: its typed methods and errors, for one connected peer.

The names of methods, parameters and errors are seen from outside, so they follow Varlink's spelling.
"""
# ruff: noqa: N802

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, Protocol, TypedDict, TypeVar

import msgspec
from asyncvarlink import GenericVarlinkErrorReply, TypedVarlinkErrorReply, VarlinkInterface, varlinkmethod
from msgspec import Struct

from supervisor.daemon.options import ReloadResult
from supervisor.daemon.wording import plain_text
from supervisor.model.action import Notice
from supervisor.model.alert import AlertStatus
from supervisor.model.course import Course
from supervisor.model.event import News
from supervisor.model.incident import Incident, IncidentDetail, Sample
from supervisor.model.news import Asked
from supervisor.model.plan import WebPlan
from supervisor.model.status import Status

INTERFACE: Final = "io.gpu-supervisor.Control"
BEHALF_LENGTH: Final = 200
REASON_LENGTH: Final = 1000  # characters: it is logged, stored and shown with every restart
INVALID: Final = "org.varlink.service.InvalidParameter"
INCIDENTS: Final = 100  # answered where no limit is asked for
INCIDENTS_MOST: Final = 10_000
SAMPLES: Final = 1000
SAMPLES_MOST: Final = 10_000
NEWS_MOST: Final = 500
COURSE_SLOTS_MOST: Final = 1000  # a week in slots of ten minutes
HISTORY_WAIT_S: Final = 10.0  # the history's thread may sit on a slow disk; the operator hears of it

Answer = TypeVar("Answer")
Document = Any  # Varlink's `object`: a JSON document whose shape its method's text names
Wishes = Literal["start", "stop", "restart", "reset"]


class UnknownWorkerError(Exception):
    """No worker has this name."""

    def __init__(self, name: str) -> None:
        """Take the name that was asked for."""
        super().__init__(f"no worker is called {name!r}")
        self.name = name


class NoLogFileError(Exception):
    """What this worker prints is kept in no file."""

    def __init__(self, name: str) -> None:
        """Take the name that was asked for."""
        super().__init__(f"no file holds the output of {name}: it is in the journal of its unit")


class Desk(Protocol):
    """What the daemon answers to operators. All of it is called in the daemon's loop."""

    def status(self) -> Status:
        """Return the state of everything as of the last turn."""
        ...

    def ask(self, asked: Asked) -> None:
        """Hand a wish to the next turn; raises UnknownWorkerError, and then nothing was taken."""
        ...

    async def reload(self, by: str) -> ReloadResult:
        """Read the configuration again and apply it, or refuse it whole."""
        ...

    async def incidents(
        self, worker: str | None, since_wall_s: float | None, limit: int
    ) -> tuple[Incident, ...]:
        """Return the newest incidents, newest first."""
        ...

    async def incident(self, ident: str) -> IncidentDetail | None:
        """Return one incident with its timeline, None where there is no such."""
        ...

    async def samples(self, worker: str | None, since_wall_s: float, limit: int) -> tuple[Sample, ...]:
        """Return the newest readings of a worker, or of the host and the GPUs, oldest first."""
        ...

    async def courses(self, since_wall_s: float, slot_s: int) -> tuple[Course, ...]:
        """Return the course of everything since a moment, in slots of `slot_s`."""
        ...

    def news(self, epoch: str | None, after: int, limit: int) -> News:
        """Return what was told after the `after`th thing of `epoch`."""
        ...

    def alerts(self) -> tuple[AlertStatus, ...]:
        """Return the alerts as of the last turn: those that fire or are pending, then the last resolved."""
        ...

    def web(self) -> WebPlan:
        """Return how the web face is configured."""
        ...

    def log_file(self, worker: str) -> str:
        """Return the path of the worker's output; raises UnknownWorkerError, NoLogFileError."""
        ...


class Peer(Struct, frozen=True):
    """Who is at the other end of a connection, as the kernel says (SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int

    def __str__(self) -> str:
        """Name it as `Asked.by` does."""
        return f"uid {self.uid}, pid {self.pid}"


Tell = Callable[[Notice], None]


class NoSuchWorker(TypedVarlinkErrorReply, interface=INTERFACE):
    """No worker has this name; nothing was done."""

    class Parameters:
        """The name."""

        worker: str


class NoSuchIncident(TypedVarlinkErrorReply, interface=INTERFACE):
    """The history has no incident of this name."""

    class Parameters:
        """Its name."""

        ident: str


class Failed(TypedVarlinkErrorReply, interface=INTERFACE):
    """The daemon could not do it."""

    class Parameters:
        """Why, in words."""

        reason: str


class Busy(TypedVarlinkErrorReply, interface=INTERFACE):
    """Too many connections are open, each with a call under way."""

    class Parameters:
        """Why, in words."""

        reason: str


def refusal(name: str, **parameters: str) -> GenericVarlinkErrorReply:
    """Make the error `name` of this interface, or of another where `name` has its dots."""
    return GenericVarlinkErrorReply(name if "." in name else f"{INTERFACE}.{name}", dict(parameters))


class Reloaded(TypedDict):
    """The reply of Reload."""

    changes: list[str]
    refused: list[str]
    warnings: list[str]


class ControlInterface(VarlinkInterface, name=INTERFACE):
    """Shows and steers the workers of gpu-supervisor. Who may connect may do all of it."""

    errors = (NoSuchWorker, NoSuchIncident, Failed, Busy)

    def __init__(self, desk: Desk, peer: Peer, tell: Tell) -> None:
        """Serve one connection."""
        self._desk = desk
        self._peer = peer
        self._tell = tell

    @varlinkmethod(return_parameter="status", allow_foreign=True)
    def Status(self, *, workers: list[str] | None = None) -> Document:
        """Return the document of `gpu-supervisor status --json`, with only those of `workers` if given."""
        status = self._desk.status()
        if workers is None:
            return msgspec.to_builtins(status)
        known = {worker.name: worker for worker in status.workers}
        for name in workers:
            if name not in known:
                raise refusal("NoSuchWorker", worker=name)
        wanted = tuple(known[name] for name in dict.fromkeys(workers))
        return msgspec.to_builtins(msgspec.structs.replace(status, workers=wanted))

    @varlinkmethod
    def Ask(
        self,
        *,
        wish: Wishes,
        workers: list[str],
        now: bool | None = None,
        reason: str | None = None,
        on_behalf: str | None = None,
    ) -> None:
        """Take an operator's wish for some workers; all are known or nothing is done.

        With `now` draining is skipped. `on_behalf` is whom the peer speaks for, in its own words; it is told
        and kept beside what the kernel says of the peer. The reply says that the wish was taken: how it goes
        is seen in Status.
        """
        if not workers:
            raise refusal(INVALID, parameter="workers")
        if reason is not None and len(reason) > REASON_LENGTH:
            raise refusal(INVALID, parameter="reason")
        if on_behalf is not None and len(on_behalf) > BEHALF_LENGTH:
            raise refusal(INVALID, parameter="on_behalf")
        speaks_for = "" if on_behalf is None else f", for {plain_text(' '.join(on_behalf.split()))}"
        # Without a reason the one who asked is the reason; the history has to know whom it was done for.
        why = f"{reason}{speaks_for}" if reason else ""
        asked = Asked(
            wish=wish,
            workers=tuple(dict.fromkeys(workers)),
            now=bool(now),
            reason=plain_text(why),  # JSON can hold what is no Unicode, and no file can
            by=f"{self._peer}{speaks_for}",
        )
        try:
            self._desk.ask(asked)
        except UnknownWorkerError as unknown:
            raise refusal("NoSuchWorker", worker=unknown.name) from unknown
        self._log(f"{wish} {', '.join(asked.workers)}: {reason or 'no reason given'}{speaks_for}")

    @varlinkmethod
    async def Reload(self) -> Reloaded:
        """Read the configuration again: apply it and return what changed, or refuse it with every fault."""
        self._log("reload")
        result = await self._desk.reload(str(self._peer))
        return Reloaded(
            changes=list(result.changes), refused=list(result.refused), warnings=list(result.warnings)
        )

    @varlinkmethod(return_parameter="incidents", allow_foreign=True)
    async def Incidents(
        self,
        *,
        worker: str | None = None,
        since_wall_s: float | None = None,
        limit: int | None = None,
    ) -> list[Document]:
        """Return incidents, newest first: of one worker, since a Unix time, `limit` at most."""
        most = INCIDENTS if limit is None else limit
        if not 1 <= most <= INCIDENTS_MOST:
            raise refusal(INVALID, parameter="limit")
        found = await _soon(self._desk.incidents(worker, since_wall_s, most))
        return [msgspec.to_builtins(incident) for incident in found]

    @varlinkmethod(return_parameter="incident", allow_foreign=True)
    async def Incident(self, *, ident: str) -> Document:
        """Return one incident with its timeline and the last lines of the worker's log."""
        found = await _soon(self._desk.incident(ident))
        if found is None:
            raise refusal("NoSuchIncident", ident=ident)
        return msgspec.to_builtins(found)

    @varlinkmethod(return_parameter="samples", allow_foreign=True)
    async def Samples(
        self, *, since_wall_s: float, worker: str | None = None, limit: int | None = None
    ) -> list[Document]:
        """Return readings of one worker, or of the host and every GPU, oldest first: the newest `limit`."""
        most = SAMPLES if limit is None else limit
        if not 1 <= most <= SAMPLES_MOST:
            raise refusal(INVALID, parameter="limit")
        found = await _soon(self._desk.samples(worker, since_wall_s, most))
        return [msgspec.to_builtins(sample) for sample in found]

    @varlinkmethod(return_parameter="courses", allow_foreign=True)
    async def Courses(self, *, since_wall_s: float, slot_s: int) -> list[Document]:
        """Return the course of the memory of everything since a Unix time, one value for each `slot_s`."""
        if not slot_s >= 1 or time.time() - since_wall_s > slot_s * COURSE_SLOTS_MOST:
            raise refusal(INVALID, parameter="slot_s")
        found = await _soon(self._desk.courses(since_wall_s, slot_s))
        return [msgspec.to_builtins(course) for course in found]

    @varlinkmethod(return_parameter="news", allow_foreign=True)
    def News(
        self, *, epoch: str | None = None, after: int | None = None, limit: int | None = None
    ) -> Document:
        """Return what was told after the thing number `after` of this epoch, `limit` at most."""
        most = NEWS_MOST if limit is None else limit
        if not 1 <= most <= NEWS_MOST:
            raise refusal(INVALID, parameter="limit")
        return msgspec.to_builtins(self._desk.news(epoch, after or 0, most))

    @varlinkmethod(return_parameter="alerts", allow_foreign=True)
    def Alerts(self) -> list[Document]:
        """Return the alerts: those that fire or are pending, oldest first, then the last resolved ones."""
        return [msgspec.to_builtins(alert) for alert in self._desk.alerts()]

    @varlinkmethod(return_parameter="web", allow_foreign=True)
    def Web(self) -> Document:
        """Return `web` of the configuration in force; of the token it has the file's name alone."""
        return msgspec.to_builtins(self._desk.web())

    @varlinkmethod(return_parameter="path")
    def LogFile(self, *, worker: str) -> str:
        """Return the file of the worker's output; older output is beside it, its name ending in `.1`."""
        try:
            return self._desk.log_file(worker)
        except UnknownWorkerError as unknown:
            raise refusal("NoSuchWorker", worker=unknown.name) from unknown
        except NoLogFileError as none:
            raise refusal("Failed", reason=str(none)) from none

    def _log(self, command: str) -> None:
        """Tell of a command and of who gave it."""
        fields = {"pid": self._peer.pid, "uid": self._peer.uid, "gid": self._peer.gid}
        self._tell(Notice(level="info", event="control command", reason=command, fields=fields))


async def _soon(answer: Awaitable[Answer]) -> Answer:
    """Wait for the history, but not for ever."""
    try:
        return await asyncio.wait_for(answer, HISTORY_WAIT_S)
    except TimeoutError as late:
        reason = f"cannot read the history: it did not answer within {HISTORY_WAIT_S:g} s"
        raise refusal("Failed", reason=reason) from late
