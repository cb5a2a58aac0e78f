"""Samples in the form in which the history stores them."""

from typing import Final

from supervisor.model.incident import GpuRow, HostRow, SampleRow, WorkerRow
from supervisor.model.reading import Missing
from supervisor.model.snapshot import HostSample

Number = int | float | None
Columns = tuple[str, str, Number, Number, Number, Number]  # kind, name, a, b, c, d

# One row in ten seconds shows a leak and a spike of load alike.
SAMPLE_EVERY_S: Final = 10.0


def swap_used_bytes(host: HostSample) -> int | None:
    """Return how much swap is in use; None where either part of it is missing."""
    if isinstance(host.swap_total_bytes, Missing) or isinstance(host.swap_free_bytes, Missing):
        return None
    return host.swap_total_bytes - host.swap_free_bytes


def to_columns(row: SampleRow) -> Columns:
    """Return a row as the history stores it."""
    match row:
        case WorkerRow():
            return ("worker", row.worker, row.memory_bytes, row.memory_file_bytes, row.vram_bytes, None)
        case HostRow():
            return ("host", "", row.memory_available_bytes, row.swap_used_bytes, row.psi_full_avg10, None)
        case GpuRow():
            return (
                "gpu",
                row.gpu,
                row.memory_used_bytes,
                row.temperature_c,
                row.power_w,
                row.utilization_percent,
            )


def from_columns(columns: Columns) -> SampleRow:
    """Return a stored row as it was told."""
    kind, name, a, b, c, d = columns
    if kind == "worker":
        return WorkerRow(name, _whole(a), _whole(b), _whole(c))
    if kind == "host":
        return HostRow(_whole(a), _whole(b), c)
    return GpuRow(name, _whole(a), b, c, d)


def _whole(number: Number) -> int | None:
    return None if number is None else int(number)
