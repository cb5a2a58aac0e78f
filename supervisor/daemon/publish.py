"""Tells the world what happened in a turn: the log, the history, systemd, the recording."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from supervisor.act.output import Output
from supervisor.daemon.history import History
from supervisor.daemon.logs import NoticeLog, healthy_line
from supervisor.daemon.loop import Turn
from supervisor.daemon.meter import Meter
from supervisor.daemon.recent import Recent
from supervisor.daemon.recording import Recorder
from supervisor.daemon.service import Service, watchdog_interval_s
from supervisor.daemon.status import StatusContext, status_of
from supervisor.decide.resume import lasting, lasting_alerts
from supervisor.model.action import Notice
from supervisor.model.incident import GpuRow, HostRow, SampleRow, WorkerRow
from supervisor.model.phase import Phase
from supervisor.model.reading import Missing, known
from supervisor.model.snapshot import Snapshot

HEALTHY_EVERY_S: Final = 60.0
TAIL_LINES: Final = 40
DURABLE: Final = "worker/"
DURABLE_ALERTS: Final = "alerts"


class Outlets(Struct, frozen=True):
    """Where things are told."""

    log: NoticeLog
    history: History
    recent: Recent
    meter: Meter
    service: Service
    recorder: Recorder | None
    output: Output
    context: Callable[[], StatusContext]


class DaemonPublisher:
    """Publishes turns. Nothing here waits: what is slow goes to a thread."""

    def __init__(self, outlets: Outlets) -> None:
        """Publish to these."""
        self._outlets = outlets
        self._healthy_s = time.monotonic() + HEALTHY_EVERY_S
        self._gpus_told: tuple[str | None, tuple[str, ...]] = (None, ())
        self._counts = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun = False
        self._feed_every_s = watchdog_interval_s(os.environ)
        self._fed_s = 0.0

    def notice(self, notice: Notice) -> None:
        """Log a notice and add it to the history; the end of a life takes the worker's last lines along."""
        wall_s = time.time()
        self._outlets.log(notice)
        self._outlets.history.tell(notice, wall_s)
        self._outlets.recent.notice(notice, wall_s)
        if notice.event == "worker exited" and notice.incident is not None and notice.worker is not None:
            task = asyncio.get_running_loop().create_task(self._attach(notice.incident, notice.worker))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _attach(self, incident: str, worker: str) -> None:
        try:
            lines = await asyncio.to_thread(self._outlets.output.tail, worker, TAIL_LINES)
        except (OSError, RuntimeError) as error:  # RuntimeError: no thread, the machine is out of pids
            text = f"the incident is without its last lines: {error}"
            self._outlets.log(Notice("warning", "degraded", text, worker=worker))
        else:
            self._outlets.history.attach(incident, lines)

    def still_alive(self) -> None:
        """Feed systemd's watchdog, which wants to see completed rounds only."""
        now_s = time.monotonic()
        if self._feed_every_s is not None and now_s - self._fed_s >= self._feed_every_s / 2:
            self._fed_s = now_s
            self._outlets.service.watchdog()

    def turn_is_over(self, turn: Turn) -> None:
        """Publish a turn."""
        self._outlets.meter.count(turn)
        self._outlets.recent.hear(turn.news, turn.snapshot.wall_s)
        for worker in turn.stepped:
            self._outlets.history.keep(DURABLE + worker.name, msgspec.json.encode(lasting(worker)))
        self._keep_alerts(turn)
        if self._outlets.recorder is not None:
            self._outlets.recorder.record(turn.plan, turn.before, turn.snapshot, turn.news, turn.decision)
        if turn.looked:
            self._tell_gpus(turn.snapshot)
            self._sample(turn)
            self._tell_healthy(turn)
        self._tell_service(turn)

    def _keep_alerts(self, turn: Turn) -> None:
        before, after = turn.before.alerts, turn.decision.memory.alerts
        if after is not before and (kept := lasting_alerts(after)) != lasting_alerts(before):
            self._outlets.history.keep(DURABLE_ALERTS, msgspec.json.encode(kept))

    def _tell_gpus(self, snapshot: Snapshot) -> None:
        missing, names = snapshot.gpu_missing, tuple(gpu.name for gpu in snapshot.gpus)
        if (missing, names) == self._gpus_told:
            return
        self._gpus_told = (missing, names)
        if missing is not None:
            self.notice(Notice("info", "no gpu", f"{missing}; RAM caps work without one"))
        elif names:
            self.notice(Notice("info", "gpus watched", f"{len(names)}: {', '.join(names)}"))

    def _tell_service(self, turn: Turn) -> None:
        phases = [worker.phase for worker in turn.decision.memory.workers.values()]
        ready, held = phases.count(Phase.READY), phases.count(Phase.HELD)
        counts = f"{ready} of {len(phases)} workers ready" + (f", {held} held" if held else "")
        if counts != self._counts:
            self._counts = counts
            self._outlets.service.status(counts)
        if not self._begun:
            self._begun = True
            self._outlets.service.ready()

    def _tell_healthy(self, turn: Turn) -> None:
        if turn.snapshot.taken_s < self._healthy_s:
            return
        self._healthy_s = turn.snapshot.taken_s + HEALTHY_EVERY_S
        status = status_of(self._outlets.context(), turn.plan, turn.decision.memory, turn.snapshot)
        for worker in status.workers:
            if worker.phase == Phase.READY:
                self._outlets.log(healthy_line(worker))

    def _sample(self, turn: Turn) -> None:
        if self._outlets.history.wants_sample(turn.snapshot.wall_s):
            self._outlets.history.sample(turn.snapshot.wall_s, sample_rows(turn.snapshot))


def sample_rows(snapshot: Snapshot) -> Sequence[SampleRow]:
    """Return the rows of the history for one look."""
    host = snapshot.host
    total, free = host.swap_total_bytes, host.swap_free_bytes
    swap = None if isinstance(total, Missing) or isinstance(free, Missing) else total - free
    rows: list[SampleRow] = [HostRow(known(host.memory_available_bytes), swap, known(host.psi_full_avg10))]
    rows += [
        GpuRow(
            gpu.uuid,
            known(gpu.memory_used_bytes),
            known(gpu.temperature_c),
            known(gpu.power_w),
            known(gpu.utilization_percent),
        )
        for gpu in snapshot.gpus
    ]
    rows += [
        WorkerRow(name, known(seen.memory_bytes), known(seen.memory_file_bytes), known(seen.vram_bytes))
        for name, seen in snapshot.workers.items()
    ]
    return rows
