"""The command line's end of the control socket: synchronous Varlink, for asyncio costs 30 ms of start-up."""

import errno
import grp
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from supervisor.cli.command import CommandError, Exit
from supervisor.daemon.options import ReloadResult
from supervisor.daemon.places import find_places
from supervisor.model.alert import AlertStatus
from supervisor.model.course import Course
from supervisor.model.event import News
from supervisor.model.incident import Incident, IncidentDetail
from supervisor.model.news import Wish
from supervisor.model.status import Status

INTERFACE: Final = "io.gpu-supervisor.Control"
SYSTEM_SOCKET: Final = Path("/run/gpu-supervisor/control")
ANSWER_S: Final = 15.0
AGAIN_S: Final = 0.05
RELOAD_S: Final = 60.0  # a large configuration, on a busy machine
CHUNK_BYTES: Final = 1 << 16

Answer = TypeVar("Answer")


class Reply(Struct):
    """One Varlink reply."""

    parameters: msgspec.Raw = msgspec.Raw(b"{}")
    error: str | None = None


class Nothing(Struct):
    """An empty answer."""


class StatusReply(Struct):
    """The answer of Status, read."""

    status: Status


class StatusDocument(Struct):
    """The answer of Status, as it came: a newer daemon may tell more than this command knows."""

    status: msgspec.Raw


class UnitStatus(Struct):
    """Of a worker's state: its unit, null where it has none."""

    unit: str | None = None


class UnitsStatus(Struct):
    """Of the state of everything: the workers' units."""

    workers: tuple[UnitStatus, ...]


class UnitsReply(Struct):
    """The answer of Status, as far as it tells units."""

    status: UnitsStatus


class IncidentsReply(Struct):
    """The answer of Incidents."""

    incidents: tuple[Incident, ...]


class IncidentReply(Struct):
    """The answer of Incident."""

    incident: IncidentDetail


class CoursesReply(Struct):
    """The answer of Courses."""

    courses: tuple[Course, ...]


class NewsReply(Struct):
    """The answer of News."""

    news: News


class AlertsReply(Struct):
    """The answer of Alerts."""

    alerts: tuple[AlertStatus, ...]


class PathReply(Struct):
    """The answer of LogFile."""

    path: str


class Client:
    """One connection to the daemon. What fails is a CommandError `cannot DOING: why`."""

    def __init__(self, path: Path, doing: str) -> None:
        """Connect to the socket at `path`, to do what `doing` says."""
        self._doing = doing
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(ANSWER_S)
        try:
            _connect(self._sock, path)
        except OSError as error:
            self._sock.close()
            raise _unreachable(path, doing, error) from error

    def close(self) -> None:
        """Hang up."""
        self._sock.close()

    def status(self) -> Status:
        """Return the state of everything."""
        return self._call("Status", {}, StatusReply).status

    def status_document(self, workers: tuple[str, ...] = ()) -> bytes:
        """Return the JSON of the state of everything, or of some workers."""
        return bytes(self._call("Status", {"workers": workers} if workers else {}, StatusDocument).status)

    def ask(self, wish: Wish, workers: tuple[str, ...], *, now: bool, reason: str) -> None:
        """Ask for something; returns when the daemon has taken it, not when it is done."""
        self._call("Ask", {"wish": wish, "workers": workers, "now": now, "reason": reason}, Nothing)

    def reload(self) -> ReloadResult:
        """Have the configuration read again."""
        self._sock.settimeout(RELOAD_S)
        return self._call("Reload", {}, ReloadResult)

    def incidents(self, worker: str | None, since_wall_s: float | None, limit: int) -> tuple[Incident, ...]:
        """Return the newest incidents, newest first."""
        asked = {"worker": worker, "since_wall_s": since_wall_s, "limit": limit}
        return self._call("Incidents", asked, IncidentsReply).incidents

    def incident(self, ident: str) -> IncidentDetail:
        """Return one incident with its timeline."""
        return self._call("Incident", {"ident": ident}, IncidentReply).incident

    def courses(self, since_wall_s: float, slot_s: int) -> tuple[Course, ...]:
        """Return the course of the memory of everything, one value for each slot."""
        return self._call("Courses", {"since_wall_s": since_wall_s, "slot_s": slot_s}, CoursesReply).courses

    def news(self, epoch: str | None, after: int, limit: int) -> News:
        """Return what was told after a thing of this epoch, the newest `limit` at most."""
        return self._call("News", {"epoch": epoch, "after": after, "limit": limit}, NewsReply).news

    def alerts(self) -> tuple[AlertStatus, ...]:
        """Return the alerts: those that fire or are pending, then the last resolved ones."""
        return self._call("Alerts", {}, AlertsReply).alerts

    def unit(self, worker: str) -> str | None:
        """Return the systemd unit of a worker, whose journal is its output; None where it has none."""
        return self._call("Status", {"workers": (worker,)}, UnitsReply).status.workers[0].unit

    def log_file(self, worker: str) -> Path:
        """Return the file that holds the worker's output."""
        return Path(self._call("LogFile", {"worker": worker}, PathReply).path)

    def error(self, why: str, code: Exit = Exit.FAILED) -> CommandError:
        """Make the error of what this connection is for."""
        return CommandError(f"cannot {self._doing}: {why}", code)

    def _call(self, method: str, parameters: Mapping[str, object], answer: type[Answer]) -> Answer:
        call = {"method": f"{INTERFACE}.{method}", "parameters": parameters}
        try:
            self._sock.sendall(msgspec.json.encode(call) + b"\0")
            reply = msgspec.json.decode(self._receive(), type=Reply)
            if reply.error is not None:
                raise self._refused(reply.error, reply.parameters)
            return msgspec.json.decode(reply.parameters, type=answer)
        except msgspec.MsgspecError as error:
            raise self.error(f"the daemon's answer is not understood: {error}") from error
        except TimeoutError as error:
            waited_s = self._sock.gettimeout()
            raise self.error(f"the daemon did not answer within {waited_s:g} s") from error
        except OSError as error:
            raise self.error(f"the daemon went away: {error.strerror}", Exit.NOT_RUNNING) from error

    def _receive(self) -> bytes:
        parts: list[bytes] = []
        while True:
            part = self._sock.recv(CHUNK_BYTES)
            if not part:
                raise ConnectionResetError(errno.ECONNRESET, "it hung up")
            parts.append(part)
            if part.endswith(b"\0"):
                return b"".join(parts)[:-1]

    def _refused(self, error: str, parameters: msgspec.Raw) -> CommandError:
        told = msgspec.json.decode(parameters, type=dict[str, object])
        name = error.removeprefix(f"{INTERFACE}.")
        if name == "NoSuchWorker":
            return self.error(f"no worker is called {told.get('worker')!r}", Exit.NO_SUCH_WORKER)
        if name == "NoSuchIncident":
            return self.error(f"no incident is called {told.get('ident')!r}")
        if name in {"Failed", "Busy"}:
            return self.error(str(told.get("reason")))
        return self.error(f"the daemon answered {error} {told}")


def connect(chosen: str | None, doing: str) -> Client:
    """Connect to the daemon that this user means, to do what `doing` says."""
    return Client(control_path(chosen, os.environ, os.getuid()), doing)


def control_path(chosen: str | None, environ: Mapping[str, str], uid: int) -> Path:
    """Return the socket of the daemon that a user means.

    It is `chosen`, else $GPU_SUPERVISOR_CONTROL, else that of an own daemon, else that of the system.
    """
    if chosen:
        return Path(chosen)
    own = find_places(environ, uid).control
    if environ.get("GPU_SUPERVISOR_CONTROL") or own.exists():
        return own
    return SYSTEM_SOCKET if os.path.lexists(SYSTEM_SOCKET) else own


def _connect(sock: socket.socket, path: Path) -> None:
    """Connect; while the daemon has more callers than it has yet accepted, try again."""
    give_up_s = time.monotonic() + ANSWER_S
    while True:
        try:
            sock.connect(os.fspath(path))
        except BlockingIOError:
            if time.monotonic() >= give_up_s:
                raise
            time.sleep(AGAIN_S)
        else:
            return


def _unreachable(path: Path, doing: str, error: OSError) -> CommandError:
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        return CommandError(
            f"cannot {doing}: the daemon is not running (nobody listens at {path})", Exit.NOT_RUNNING
        )
    if isinstance(error, PermissionError):
        return CommandError(f"cannot {doing}: no permission for {path}; {_who_may(path)}")
    return CommandError(f"cannot {doing}: no connection to {path}: {error.strerror or error}")


def _who_may(path: Path) -> str:
    """Say what gives an operator access: the group of the socket, or root."""
    try:
        gid = path.stat().st_gid
    except OSError:
        return "use sudo"
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = str(gid)
    return "use sudo" if gid == 0 else f"be a member of group {group!r}, or use sudo"
