"""What happened to workers and GPUs, and what was measured around it. Times are Unix times, for showing."""

from collections.abc import Mapping

from msgspec import Struct

from supervisor.model.action import Field


class Incident(Struct, frozen=True):
    """One thing that went wrong or was done on purpose, from its first notice to its outcome."""

    id: str
    worker: str | None
    gpu: str | None
    cause: str | None  # a Cause as text: a history may hold those of another version
    reason: str
    opened_wall_s: float
    closed_wall_s: float | None = None  # None: still open
    outcome: str | None = None
    fields: Mapping[str, Field] = {}


class Entry(Struct, frozen=True):
    """One notice in the timeline of an incident."""

    wall_s: float
    level: str
    event: str
    reason: str
    fields: Mapping[str, Field] = {}


class WorkerRow(Struct, frozen=True, tag="worker"):
    """The memory of one worker; None is a reading that could not be had."""

    worker: str
    memory_bytes: int | None
    memory_file_bytes: int | None = None
    vram_bytes: int | None = None


class HostRow(Struct, frozen=True, tag="host"):
    """The memory of the machine."""

    memory_available_bytes: int | None
    swap_used_bytes: int | None = None
    psi_full_avg10: float | None = None


class GpuRow(Struct, frozen=True, tag="gpu"):
    """One GPU, by its UUID."""

    gpu: str
    memory_used_bytes: int | None
    temperature_c: float | None = None
    power_w: float | None = None
    utilization_percent: float | None = None


SampleRow = WorkerRow | HostRow | GpuRow


class Sample(Struct, frozen=True):
    """One row and when it was read, to the second."""

    wall_s: float
    row: SampleRow


class IncidentDetail(Struct, frozen=True):
    """An incident with its timeline, the readings around it and the last lines of the worker's log."""

    incident: Incident
    timeline: tuple[Entry, ...] = ()
    samples: tuple[Sample, ...] = ()
    log_tail: tuple[str, ...] = ()
