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


class XidStatus(Struct, frozen=True):
    """An Xid that the kernel's log has of a GPU: its code, what it says, and when (UTC, ISO 8601)."""

    code: int
    text: str
    at: str


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
    throttle: tuple[str, ...] | None = ()  # why its clocks are held down
    xids: int | None = 0  # since the boot
    last_xid: XidStatus | None = None
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
    needs_prompt_cache_bytes: int | None = None  # of a llama.cpp server: as far as it may grow, later
    needs_mapped_bytes: int | None = None  # and its weights in RAM, pages of the file
    reported: ReportedStatus | None = None
    restarts_by_cause: Mapping[str, int] = {}
    missing: Mapping[str, str] = {}


class SelfStatus(Struct, frozen=True):
    """The daemon itself, since it was started. A turn is sensing, deciding and acting.

    `turn_counts` has one more entry than `turn_bounds_s`: the turns that took no longer than each bound,
    and longer than the one before; at the end those beyond the last.
    """

    pid: int
    started_wall_s: float
    turns: int = 0
    turns_s: float = 0.0  # all of them together
    turn_bounds_s: tuple[float, ...] = ()
    turn_counts: tuple[int, ...] = ()
    readings_missing: int = 0
    adopted: int = 0  # workers of an earlier daemon
    quarantines: int = 0
    history_dropped: int = 0  # rows lost because the disk did not keep up


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
    supervisor: SelfStatus | None = None
