"""What a worker reports of itself through the guard, and what it is told; version 1 of the protocol.

The wire's own document is `supervisor/guard/wire.py`. Here are the bounds that a report has to keep.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from supervisor.model.phase import Pressure

VERSION: int = 1

Whole = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Real = Annotated[float, Meta(ge=0, le=1e18)]  # JSON has no NaN; beyond this nothing is counted or awaited
JobState = Literal["queued", "processing", "completed", "failed"]


class MemoryReport(Struct, frozen=True):
    """The worker's memory in the shape of /stats: mb of 2**20 bytes, gb of 2**30, null where unread."""

    cuda_available: bool | None = None
    current_pressure: Pressure | None = None
    oom_events: Whole = 0
    recoveries: Whole = 0
    degradation_level: Whole = 0
    allocated_mb: Real | None = None
    allocated_gb: Real | None = None
    reserved_mb: Real | None = None
    reserved_gb: Real | None = None
    total_mb: Real | None = None
    total_gb: Real | None = None
    usage_percent: Real | None = None
    allocated_percent: Real | None = None
    missing: Mapping[str, str] = {}  # why, by the name of what is null


class AdviceReport(Struct, frozen=True):
    """What the worker makes do with; null leaves a size as it is."""

    clear_cache: bool = False
    batch_size: Whole | None = None
    input_size: tuple[Whole, Whole] | None = None
    cpu_fallback: bool = False
    stages_off: tuple[str, ...] = ()


class Progress(Struct, frozen=True):
    """Where a job stands; `done` and `total` are items, `throughput` is items a second."""

    job: str = ""
    state: JobState = "processing"
    position: Whole | None = None
    batch_size: Whole | None = None
    done: Whole = 0
    total: Whole | None = None
    throughput: Real | None = None
    eta_s: Real | None = None


class BatchesReport(Struct, frozen=True):
    """How the worker's batches went; the rates are from 0 to 1."""

    success_rate: Real | None = None
    throughput: Real | None = None
    batch_efficiency: Real | None = None
    recoveries: Whole = 0
    peak_memory_bytes: Whole | None = None


class Report(Struct, frozen=True):
    """One report: state, not an event, so that a lost one costs nothing. `beat` alone is of the moment."""

    v: Literal[1]
    ready: bool = False
    beat: bool = False  # the work loop itself was heard since the last report
    drained: bool = False
    level: Pressure | None = None
    memory: MemoryReport | None = None
    advice: AdviceReport | None = None
    progress: Progress | None = None
    batches: BatchesReport | None = None
    poisoned: str | None = None  # why nothing in the process can mend it


class DrainWords(Struct, frozen=True):
    """Finish what has begun and take on nothing new, for at most `within_s`."""

    reason: str
    within_s: float | None = None


class Words(Struct, frozen=True):
    """What the daemon tells a worker. None is unknown."""

    host: Pressure | None = None
    gpu: Pressure | None = None  # the worst of its GPUs
    advice: tuple[Literal["cool-down", "ease-off"], ...] = ()
    drain: DrainWords | None = None
