"""The state of everything as it is shown: the document of `gpu-supervisor status --json`."""

from collections.abc import Mapping

from msgspec import Struct

from supervisor.model.plan import Setting
from supervisor.model.report import AdviceReport, BatchesReport, MemoryReport, Progress


class HostStatus(Struct, frozen=True):
    """The machine. A reading that could not be had is null, its reason in `missing`."""

    memory_total_bytes: int | None
    memory_available_bytes: int | None
    swap_used_bytes: int | None
    pressure: str
    psi_full_avg10: float | None
    missing: Mapping[str, str] = {}


class GpuStatus(Struct, frozen=True):
    """One GPU."""

    index: int
    uuid: str
    name: str
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    pressure: str
    temperature_c: float | None
    power_w: float | None
    power_limit_w: float | None
    utilization_percent: float | None
    state: str
    unified: bool
    quarantine: str | None = None
    read_age_s: float = 0.0
    missing: Mapping[str, str] = {}


class LastRestartStatus(Struct, frozen=True):
    """The last restart: its cause, the sentence, and when (UTC, ISO 8601)."""

    cause: str
    reason: str
    at: str


class ReportedStatus(Struct, frozen=True):
    """What a worker last reported of itself through the guard; `memory` has the shape of /stats."""

    level: str | None
    memory: MemoryReport | None
    advice: AdviceReport | None
    progress: Progress | None
    batches: BatchesReport | None
    draining: bool  # it was told to finish
    drained: bool  # it says that it has
    report_age_s: float


class WorkerStatus(Struct, frozen=True):
    """One worker."""

    name: str
    phase: str
    pid: int | None
    unit: str | None
    age_s: float | None
    max_age_s: float | None
    restart_in_s: float | None
    memory_bytes: int | None
    memory_file_bytes: int | None
    memory_cap_bytes: int | None
    vram_bytes: int | None
    vram_cap_bytes: int | None
    vram_enforcement: str
    gpus: tuple[str, ...]
    restarts: int
    last_restart: LastRestartStatus | None
    rung: int
    settings: Mapping[str, Setting]
    oom_events: int
    forecast_s: float | None
    held: str | None
    run: str | None = None  # changes with each life
    waits_for: str | None = None
    done: str | None = None  # how it ended, while it is stopped because its work is done
    processes: int = 0
    needs_memory_bytes: int | None = None  # to come up: declared, or learned from its last lives
    needs_vram_bytes: int | None = None
    reported: ReportedStatus | None = None
    missing: Mapping[str, str] = {}


class Status(Struct, frozen=True):
    """Everything."""

    version: str
    launcher: str
    taken_at: str
    uptime_s: float
    host: HostStatus
    gpus: tuple[GpuStatus, ...]
    workers: tuple[WorkerStatus, ...]
    config: str = ""  # the file in force
    config_refused: str | None = None  # why the last reload was refused
    gpu_missing: str | None = None
    dry_run: bool = False
    history: str = "ok"  # or why it is kept in memory only
