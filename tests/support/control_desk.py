"""A desk that tells a written story over a real control socket, in a thread of its own."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from supervisor.daemon.control import Control, Limits, ReloadResult, UnknownWorkerError, listen
from supervisor.daemon.recent import Recent
from supervisor.model.action import Notice
from supervisor.model.alert import AlertStatus
from supervisor.model.course import Course
from supervisor.model.event import News
from supervisor.model.incident import Entry, GpuRow, HostRow, Incident, IncidentDetail, Sample, WorkerRow
from supervisor.model.news import Asked
from supervisor.model.plan import WebPlan
from supervisor.model.status import GpuStatus, HostStatus, Status, WorkerStatus

GIB = 1 << 30


def worker(name: str, phase: str = "ready", **fields: object) -> WorkerStatus:
    """Return a worker that has just begun, changed by `fields`."""
    plain = WorkerStatus(
        name=name,
        phase=phase,
        pid=17650 if phase == "ready" else None,
        unit=None,
        age_s=74.0 if phase == "ready" else None,
        max_age_s=3600.0,
        restart_in_s=3526.0 if phase == "ready" else None,
        memory_bytes=2437393940 if phase == "ready" else None,
        memory_file_bytes=0,
        memory_cap_bytes=8 * GIB,
        vram_bytes=5476083302 if phase == "ready" else None,
        vram_cap_bytes=6 * GIB,
        vram_enforcement="poll",
        gpus=("GPU-1",),
        restarts=0,
        last_restart=None,
        rung=0,
        settings={},
        oom_events=0,
        forecast_s=None,
        held=None,
        run=f"{name}-1" if phase == "ready" else None,
    )
    return msgspec.structs.replace(plain, **fields)


def everything(*workers: WorkerStatus) -> Status:
    """Return a state of the machine with these workers."""
    return Status(
        version="0.1.0",
        launcher="direct",
        taken_at="2026-11-21T02:37:08.000Z",
        uptime_s=192.0,
        host=HostStatus(64 * GIB, 41 * GIB, 0, "normal", 0.0),
        gpus=(
            GpuStatus(
                index=0,
                uuid="GPU-1",
                name="NVIDIA H200",
                memory_total_bytes=139 * GIB,
                memory_used_bytes=6 * GIB,
                pressure="normal",
                temperature_c=40.0,
                power_w=70.0,
                power_limit_w=700.0,
                utilization_percent=3.0,
                state="ok",
                unified=False,
            ),
        ),
        workers=workers,
        config="/etc/gpu-supervisor/config.yaml",
    )


INCIDENT = Incident(
    id="chat-1",
    worker="chat",
    gpu=None,
    cause="memory-cap",
    reason="8.10GiB, cap 8GiB, 3 of 5 readings",
    opened_wall_s=1_763_692_628.0,
    closed_wall_s=1_763_692_640.0,
    outcome="ready again, pid 17650",
    fields={"memory_bytes": 8697308774},
)
DETAIL = IncidentDetail(
    incident=INCIDENT,
    timeline=(
        Entry(1_763_692_628.0, "warning", "cap breached", "8.10GiB, cap 8GiB"),
        Entry(1_763_692_640.0, "info", "worker ready", "answered 200"),
    ),
    samples=(
        Sample(1_763_692_627.0, WorkerRow("chat", 8 * GIB, None, None)),
        Sample(1_763_692_627.0, HostRow(4 * GIB, 0, 1.0)),
        Sample(1_763_692_627.0, GpuRow("GPU-1", 6 * GIB, 40.0, 70.0, 3.0)),
    ),
    log_tail=("loading model", "bad \x1b[31mescape"),
)


class StoryDesk:
    """A desk whose workers go through written phases: one step each time their state is asked for."""

    def __init__(self, status: Status, story: Mapping[str, Sequence[WorkerStatus]] | None = None) -> None:
        """Begin with `status`; once something was asked for, each worker of `story` goes on."""
        self.now = status
        self.story = {name: list(steps) for name, steps in (story or {}).items()}
        self.asked: list[Asked] = []
        self.told: list[Notice] = []
        self.reloaded = ReloadResult()
        self.reloads: list[str] = []
        self.queries: list[tuple[str | None, float | None, int]] = []
        self.logs: dict[str, str] = {}
        self.recent = Recent("epoch-1")
        self.alerting: tuple[AlertStatus, ...] = ()
        self.web_plan = WebPlan()
        self.trouble: Exception | None = None
        self.shown = 0
        self._turn = 0

    def status(self) -> Status:
        """Return the next step of the story."""
        self.shown += 1
        if self.trouble is not None:
            raise self.trouble
        if self.asked:
            self._turn += 1
            workers = tuple(self._next(each) for each in self.now.workers)
            taken_at = f"2026-11-21T02:37:08.{self._turn:03}Z"
            self.now = msgspec.structs.replace(self.now, workers=workers, taken_at=taken_at)
        return self.now

    def _next(self, now: WorkerStatus) -> WorkerStatus:
        steps = self.story.get(now.name)
        return steps.pop(0) if steps else now

    def ask(self, asked: Asked) -> None:
        """Note a wish."""
        known = {each.name for each in self.now.workers}
        for name in asked.workers:
            if name not in known:
                raise UnknownWorkerError(name)
        self.asked.append(asked)

    async def reload(self, by: str) -> ReloadResult:
        """Note who asked."""
        self.reloads.append(by)
        return self.reloaded

    async def incidents(
        self, worker: str | None, since_wall_s: float | None, limit: int
    ) -> tuple[Incident, ...]:
        """Return the one incident, if it is of this worker."""
        self.queries.append((worker, since_wall_s, limit))
        return (INCIDENT,) if worker in {None, INCIDENT.worker} else ()

    async def incident(self, ident: str) -> IncidentDetail | None:
        """Return the one incident."""
        return DETAIL if ident == INCIDENT.id else None

    async def samples(self, worker: str | None, since_wall_s: float, limit: int) -> tuple[Sample, ...]:
        """Return the readings around the one incident, of this worker or of all that is none."""
        del limit
        rows = [one for one in DETAIL.samples if one.wall_s >= since_wall_s]
        if worker is None:
            return tuple(one for one in rows if not isinstance(one.row, WorkerRow))
        return tuple(one for one in rows if isinstance(one.row, WorkerRow) and one.row.worker == worker)

    async def courses(self, since_wall_s: float, slot_s: int) -> tuple[Course, ...]:
        """Return the course of the one worker."""
        at_s = int(since_wall_s) // slot_s * slot_s
        return (Course("worker", "chat", (at_s, at_s + slot_s), (7 * GIB, 8 * GIB), (GIB, None)),)

    def news(self, epoch: str | None, after: int, limit: int) -> News:
        """Return what was put into `recent`."""
        return self.recent.since(epoch, after, limit)

    def alerts(self) -> tuple[AlertStatus, ...]:
        """Return what was put into `alerting`."""
        return self.alerting

    def web(self) -> WebPlan:
        """Return what was put into `web_plan`."""
        return self.web_plan

    def log_file(self, worker: str) -> str:
        """Return what was put into `logs`."""
        try:
            return self.logs[worker]
        except KeyError:
            raise UnknownWorkerError(worker) from None


@contextlib.contextmanager
def serving(path: Path, desk: StoryDesk, limits: Limits | None = None) -> Generator[StoryDesk]:
    """Serve the desk at `path` until the end of the block; fails where the loop met an error of its own."""
    up, errors = threading.Event(), list[str]()
    ending: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        loop.set_exception_handler(lambda _, context: errors.append(repr(context)))
        control = Control(listen(path), desk, desk.told.append, limits)
        control.start()
        ending.append((loop, end))
        up.set()
        await end.wait()
        await control.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert up.wait(10), "the control socket did not come up"
        yield desk
    finally:
        if ending:
            ending[0][0].call_soon_threadsafe(ending[0][1].set)
        thread.join(10)
    assert not thread.is_alive()
    assert errors == []


def raw(path: Path) -> socket.socket:
    """Connect as a client that speaks for itself."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(str(path))  # without a timeout: a full backlog is waited for
    sock.settimeout(10)
    return sock


def call(sock: socket.socket, method: str, **parameters: object) -> dict[str, Any]:
    """Make one Varlink call and return the reply."""
    sock.sendall(msgspec.json.encode({"method": method, "parameters": parameters}) + b"\0")
    return reply(sock)


def reply(sock: socket.socket) -> dict[str, Any]:
    """Read one Varlink message."""
    content = b""
    while not content.endswith(b"\0"):
        part = sock.recv(65536)
        if not part:
            raise ConnectionResetError("hung up")
        content += part
    return msgspec.json.decode(content[:-1], type=dict[str, Any])
