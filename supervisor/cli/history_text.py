"""Incidents as a person reads them."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from supervisor.cli.figures import size, span
from supervisor.cli.terminal import Colour, coloured, plain
from supervisor.model.action import Field
from supervisor.model.incident import Entry, GpuRow, HostRow, Incident, IncidentDetail, Sample, WorkerRow

INDENT = "    "
LEVELS: Mapping[str, Colour] = {"error": "red", "warning": "yellow"}


def render_incident(incident: Incident, *, colour: bool) -> list[str]:
    """Return an incident in two or three lines: when, who and what; why; how it ended."""
    about = incident.worker or incident.gpu or "host"
    cause = coloured(plain(_what(incident)), "bold", on=colour)
    lines = [
        f"{clock(incident.opened_wall_s)}  {plain(about)}  {cause}  {plain(incident.id)}",
        f"{INDENT}{plain(incident.reason)}{_fields(incident.fields)}",
    ]
    if incident.closed_wall_s is None:
        return [*lines, INDENT + coloured("not over yet", "yellow", on=colour)]
    after = span(incident.closed_wall_s - incident.opened_wall_s)
    return [*lines, f"{INDENT}ended after {after}: {plain(incident.outcome or 'no outcome is known')}"]


def render_detail(detail: IncidentDetail, *, colour: bool) -> list[str]:
    """Return an incident with its timeline, the readings around it and the last lines of the log."""
    lines = render_incident(detail.incident, colour=colour)
    if detail.timeline:
        lines += ["", "timeline"]
        lines += [_entry(entry, detail.incident.opened_wall_s, colour=colour) for entry in detail.timeline]
    if detail.samples:
        lines += ["", "readings"]
        lines += [f"{INDENT}{clock(sample.wall_s)}  {_row(sample)}" for sample in detail.samples]
    if detail.log_tail:
        lines += ["", "last output", *(INDENT + plain(line) for line in detail.log_tail)]
    return lines


def clock(wall_s: float) -> str:
    """Return a Unix time as the operator's local time."""
    return datetime.fromtimestamp(wall_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _entry(entry: Entry, opened_wall_s: float, *, colour: bool) -> str:
    event = coloured(plain(entry.event), LEVELS.get(entry.level), on=colour)
    after_s = entry.wall_s - opened_wall_s
    return f"{INDENT}{after_s:+9.3f}s  {event}: {plain(entry.reason)}{_fields(entry.fields)}"


def _what(incident: Incident) -> str:
    """Return the cause of an incident, or the rule of an alert, which has none."""
    return incident.cause or str(incident.fields.get("alert") or "no cause")


def _fields(fields: Mapping[str, Field]) -> str:
    told = [f"{key}={_field(key, value)}" for key, value in fields.items() if value is not None]
    return f" ({', '.join(told)})" if told else ""


def _field(key: str, value: Field) -> str:
    if key.endswith("_bytes") and isinstance(value, int):
        return size(value)
    return plain(f"{value:.6g}" if isinstance(value, float) else str(value))


def _row(sample: Sample) -> str:
    row = sample.row
    if isinstance(row, WorkerRow):
        return f"{plain(row.worker)}: memory {_size(row.memory_bytes)}, VRAM {_size(row.vram_bytes)}"
    if isinstance(row, HostRow):
        stalled = _joined([(row.psi_full_avg10, "% stalled")])
        return (
            f"host: {_size(row.memory_available_bytes)} free, swap {_size(row.swap_used_bytes)} used{stalled}"
        )
    return f"GPU {plain(row.gpu)}: {_size(row.memory_used_bytes)} used{_gpu(row)}"


def _gpu(row: GpuRow) -> str:
    return _joined([(row.utilization_percent, "%"), (row.temperature_c, " C"), (row.power_w, " W")])


def _joined(figures: Iterable[tuple[float | None, str]]) -> str:
    return "".join(f", {value:.0f}{unit}" for value, unit in figures if value is not None)


def _size(size_bytes: int | None) -> str:
    return "?" if size_bytes is None else size(size_bytes)
