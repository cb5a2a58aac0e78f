"""A machine to show: workers, a day of incidents, an hour of readings; all of it made up."""

import math
import time
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from supervisor.model.action import Notice
from supervisor.model.course import Course
from supervisor.model.incident import Entry, HostRow, Incident, IncidentDetail, Sample, WorkerRow
from supervisor.model.phase import Cause
from supervisor.model.report import AdviceReport, BatchesReport, MemoryReport, Progress
from supervisor.model.status import (
    GpuStatus,
    HostStatus,
    LastRestartStatus,
    ReportedStatus,
    Status,
    WorkerStatus,
)
from support.control_desk import GIB, StoryDesk, everything, worker

MIB: Final = 1 << 20
FAILED: Final = "3 failures within 1min, the last: exited with status 3 after 0.4 s"
OVER_CAP: Final = "memory 12.1GiB is above its cap of 12GiB in 3 of 5 readings"
CHAT: Final = "GPU-6f1c2a9e-0d7b-4e55-9a31-5f0c8e1b7d42"
EMBED: Final = "GPU-b83d94d1-7c20-4f9a-8f06-2e6a915cc0f7"


def gpu(index: int, uuid: str, used_gib: float, **fields: object) -> GpuStatus:
    """Return a healthy GPU of 80 GiB, changed by `fields`."""
    plain = GpuStatus(
        index=index,
        uuid=uuid,
        name="NVIDIA A100 80GB",
        memory_total_bytes=80 * GIB,
        memory_used_bytes=int(used_gib * GIB),
        pressure="normal",
        temperature_c=58.0,
        power_w=214.0,
        power_limit_w=300.0,
        utilization_percent=71.0,
        state="ok",
        unified=False,
    )
    return replace(plain, **fields)


def ago(seconds: float) -> str:
    """Write when that was, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - seconds))


def reported(**fields: object) -> ReportedStatus:
    """Return what a worker reports that has just begun, changed by `fields`."""
    memory = MemoryReport(cuda_available=True, degradation_level=0, recoveries=0)
    plain = ReportedStatus("normal", memory, AdviceReport(), None, BatchesReport(), False, False, 1.2)  # noqa: FBT003
    return replace(plain, **fields)


def workers() -> tuple[WorkerStatus, ...]:
    """Return five workers, each with a fate of its own."""
    job = Progress("report-0412", "processing", None, 12, 1840, 2600, 34.1, 22.3)
    oom = LastRestartStatus("vram-oom", "out of GPU memory: tried to allocate 2.40 GiB", ago(5400))
    cap = LastRestartStatus("memory-cap", OVER_CAP, ago(2100))
    held = LastRestartStatus("exit", "exited with status 3 after 0.4 s", ago(1300))
    return (
        worker(
            "chat",
            age_s=14820.0,
            max_age_s=21180.0,
            restart_in_s=6360.0,
            memory_bytes=int(5.1 * GIB),
            vram_bytes=int(41.6 * GIB),
            vram_cap_bytes=48 * GIB,
            gpus=(CHAT,),
            restarts=2,
            last_restart=LastRestartStatus("age", "age 5h 58min has reached 5h 58min", ago(14900)),
            reported=reported(progress=Progress("", "processing", None, 4, 0, None, 118.0, None)),
            processes=1,
            unit="gpu-worker-chat.service",
        ),
        worker(
            "embed",
            age_s=2080.0,
            max_age_s=21600.0,
            restart_in_s=19520.0,
            pid=18211,
            memory_bytes=int(10.9 * GIB),
            memory_cap_bytes=12 * GIB,
            vram_bytes=int(7.2 * GIB),
            vram_cap_bytes=10 * GIB,
            gpus=(CHAT,),
            restarts=1,
            last_restart=cap,
            forecast_s=1450.0,
            reported=reported(progress=job, batches=BatchesReport(success_rate=1.0, throughput=34.1)),
        ),
        worker(
            "rerank",
            age_s=5390.0,
            max_age_s=None,
            restart_in_s=None,
            pid=17902,
            memory_bytes=int(2.2 * GIB),
            memory_cap_bytes=6 * GIB,
            vram_bytes=int(11.8 * GIB),
            vram_cap_bytes=16 * GIB,
            gpus=(EMBED,),
            restarts=1,
            last_restart=oom,
            rung=1,
            oom_events=1,
            settings={"n_gpu_layers": 15},
            reported=reported(level="high", memory=MemoryReport(degradation_level=2)),
        ),
        worker(
            "transcribe",
            "held",
            max_age_s=None,
            gpus=(EMBED,),
            vram_cap_bytes=12 * GIB,
            restarts=5,
            last_restart=held,
            held=f"{FAILED}; `gpu-supervisor reset transcribe` releases it",
        ),
        worker("nightly", "stopped", max_age_s=None, memory_cap_bytes=16 * GIB, vram_cap_bytes=None, gpus=()),
    )


def machine(*given: WorkerStatus) -> Status:
    """Return the whole machine, with those workers or the five."""
    return replace(
        everything(*(given or workers())),
        launcher="systemd",
        taken_at=ago(0),
        uptime_s=273_600.0,
        host=HostStatus(128 * GIB, int(70.4 * GIB), 0, "normal", 0.0),
        gpus=(
            gpu(0, CHAT, 66.3, pressure="high", temperature_c=67.0, power_w=268.0, utilization_percent=93.0),
            gpu(1, EMBED, 12.9, utilization_percent=38.0, power_w=121.0, temperature_c=49.0),
        ),
    )


INCIDENTS: Final = (  # how long ago, how long it took, of whom, and what
    (1300, 21, "transcribe", "exit", FAILED, "held"),
    (2100, 14, "embed", "memory-cap", OVER_CAP, "ready again, pid 18211"),
    (
        5400,
        9,
        "rerank",
        "vram-oom",
        "out of GPU memory: tried to allocate 2.40 GiB",
        "ready again on rung 1, pid 17902",
    ),
    (14900, 17, "chat", "age", "age 5h 58min has reached 5h 58min", "ready again, pid 17650"),
    (
        31800,
        12,
        "embed",
        "memory-cap",
        "memory 12.3GiB is above its cap of 12GiB in 3 of 5 readings",
        "ready again, pid 9120",
    ),
    (36420, 16, "chat", "age", "age 6h 1min has reached 6h 1min", "ready again, pid 9044"),
    (50200, 4, "nightly", "operator", "the night's work is done", "stopped"),
    (61000, 31, "chat", "host-memory", "1.8GiB available, below 2GiB", "ready again, pid 4410"),
    (
        61040,
        12,
        "embed",
        "memory-cap",
        "memory 12.2GiB is above its cap of 12GiB in 3 of 5 readings",
        "ready again, pid 4388",
    ),
    (79300, 15, "chat", "age", "age 5h 57min has reached 5h 57min", "ready again, pid 2211"),
)


class ShownDesk(StoryDesk):
    """A desk with a day behind it. Assign `now` to let something happen."""

    def __init__(self, status: Status) -> None:
        """Begin with `status`; the day and the hour before it are of its workers."""
        super().__init__(status)
        self.now_wall_s = time.time()
        for seconds, notice in NOTICES:
            self.recent.notice(notice, self.now_wall_s - seconds)

    async def incidents(
        self, worker: str | None, since_wall_s: float | None, limit: int
    ) -> tuple[Incident, ...]:
        """Return the day."""
        every = (self._incident(number) for number in range(len(INCIDENTS)))
        return tuple(
            one for one in every if worker in {None, one.worker} and one.opened_wall_s >= (since_wall_s or 0)
        )[:limit]

    def _incident(self, number: int) -> Incident:
        seconds, took, name, cause, reason, outcome = INCIDENTS[number]
        began_s = self.now_wall_s - seconds
        fields = (
            {"memory_bytes": int(12.1 * GIB), "memory_cap_bytes": 12 * GIB} if cause == "memory-cap" else {}
        )
        return Incident(
            f"{name}-{number}", name, None, cause, reason, began_s, began_s + took, outcome, fields
        )

    async def incident(self, ident: str) -> IncidentDetail | None:
        """Return one of them: how the memory rose until it began, and fell."""
        _, _, number = ident.rpartition("-")
        one = self._incident(int(number))
        at, name = one.opened_wall_s, one.worker or ""
        rows = [
            Sample(
                at + second,
                WorkerRow(
                    name, int(rise(second) * GIB), None, int(7.1 * GIB) if second < 0 else int(3 * GIB)
                ),
            )
            for second in range(-300, 120, 5)
        ]
        timeline = (
            Entry(at, "warning", "cap breached", one.reason),
            Entry(at + 0.1, "info", "worker draining", "it finishes its requests"),
            Entry(at + 6.2, "info", "worker stopping", "sent SIGTERM"),
            Entry(at + 8.0, "info", "worker exited", "exited with status 0"),
            Entry(at + 9.1, "info", "memory is back", "11.9GiB, after 1.1 s"),
            Entry(at + 14.0, "info", "worker ready", "answered 200"),
        )
        log = (
            "INFO batch 1840 of 2600, 34.1 items/s",
            "WARNING allocator: 11.8 GiB in 4210 segments",
            "<b>not markup</b>",
            "INFO draining: 3 requests left",
            "INFO bye",
        )
        return IncidentDetail(one, timeline, (*rows, Sample(at, HostRow(60 * GIB, 0, 0.0))), log)

    async def courses(self, since_wall_s: float, slot_s: int) -> tuple[Course, ...]:
        """Return an hour in which each worker came to where it is now."""
        first = int(since_wall_s) // slot_s * slot_s
        at = tuple(range(first, int(time.time()), slot_s))
        count = len(at)
        found = [Course("host", "", at, wave(self.now.host.memory_available_bytes, count, 0.04, 3))]
        found += [
            Course("gpu", one.uuid, at, wave(one.memory_used_bytes, count, 0.03, one.index))
            for one in self.now.gpus
        ]
        for place, one in enumerate(self.now.workers):
            age = count if one.age_s is None else min(count, int(one.age_s) // slot_s)
            if one.memory_bytes is not None:
                memory = (
                    climb(one.memory_bytes, age)
                    if one.forecast_s
                    else wave(one.memory_bytes, age, 0.08, place)
                )
                vram = wave(one.vram_bytes, age, 0.05, place + 2)
                found.append(Course("worker", one.name, at[count - age :], memory, vram))
        return tuple(found)


def rise(second: float) -> float:
    """Return GiB: a slow leak to the cap, then the fall, then a new life."""
    if second < 0:
        return 12.1 + second / 110 + 0.12 * math.sin(second / 9)
    return max(0.3, 12.1 - second * 1.6) if second < 9 else min(8.2, 0.3 + (second - 9) * 0.4)


def wave(now: int | None, count: int, swing: float, phase: int) -> tuple[int | None, ...]:
    """Return a course that ends near `now` and goes up and down by a share of it."""
    if now is None:
        return (None,) * count
    back = range(count, 0, -1)
    return tuple(
        int(now * (1 - swing + swing * math.sin(step / 5 + phase) * math.cos(step / 17))) for step in back
    )


def climb(now: int, count: int) -> tuple[int, ...]:
    """Return a course that rises to `now`."""
    return tuple(
        int(now * (0.55 + 0.45 * (step + 1) / count) + 40 * MIB * math.sin(step / 2)) for step in range(count)
    )


def notice(level: str, event: str, reason: str, name: str, cause: Cause | None = None) -> Notice:
    """Return something that was told of a worker."""
    return Notice(level=level, event=event, reason=reason, worker=name, cause=cause)  # type: ignore[arg-type]


NOTICES: Final[Sequence[tuple[float, Notice]]] = (
    (2100, notice("warning", "worker draining", OVER_CAP, "embed", Cause.MEMORY_CAP)),
    (2092, notice("info", "worker stopping", "drained; sent SIGTERM", "embed", Cause.MEMORY_CAP)),
    (2086, notice("info", "worker ready", "answered 200 after 5.1 s", "embed")),
    (1330, notice("warning", "worker exited", "exited with status 3 after 0.4 s", "transcribe", Cause.EXIT)),
    (1300, notice("error", "worker held", "3 failures within 1min", "transcribe", Cause.EXIT)),
    (410, notice("warning", "memory heads for the cap", "12GiB in about 29min at 46MiB a minute", "embed")),
    (55, notice("info", "gpu pressure", "GPU 0: high at 82 %", "chat")),
)
