"""The state of everything as a person reads it, in 80 columns."""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Final

from msgspec.structs import replace

from supervisor.cli.figures import size, span
from supervisor.cli.terminal import Colour, coloured, plain
from supervisor.model.phase import Phase, Pressure
from supervisor.model.status import GpuStatus, HostStatus, ReportedStatus, Status, WorkerStatus

STALE_S: Final = 60.0  # far beyond any sensible poll_interval
GPU_OLD_S: Final = 10.0  # several looks without an answer of the driver
REPORT_OLD_S: Final = 10.0  # several reports of a guard that has something to say
INDENT: Final = "    "
NONE: Final = "-"
UNKNOWN: Final = "?"
HEADER: Final = ("WORKER", "PHASE", "PID", "AGE", "LEFT", "MEMORY", "VRAM", "RESTARTS")

PHASE_COLOURS: Final[Mapping[str, Colour]] = {Phase.READY: "green", Phase.HELD: "red", Phase.STOPPED: "dim"}
PRESSURE_COLOURS: Final[Mapping[str, Colour]] = {
    Pressure.HIGH: "yellow",
    Pressure.CRITICAL: "red",
    Pressure.EXTREME: "red",
}


def render(
    status: Status, *, now_wall_s: float, taken_wall_s: float, columns: int, colour: bool
) -> list[str]:
    """Return the lines of the whole table."""
    lines = [*_head(status, now_wall_s - taken_wall_s, colour=colour), *_host(status.host, colour=colour)]
    for gpu in status.gpus:
        lines += _gpu(gpu, colour=colour)
    if status.gpu_missing:
        lines.append(f"GPU     none is watched: {plain(status.gpu_missing)}")
    lines.append("")
    workers = [_without_vram(each) for each in status.workers] if status.gpu_missing else status.workers
    return lines + _workers(workers, columns, colour=colour)


def _head(status: Status, old_s: float, *, colour: bool) -> list[str]:
    words = [f"gpu-supervisor {status.version}", f"launcher {status.launcher}", f"up {span(status.uptime_s)}"]
    lines = [", ".join([*words, *([status.config] if status.config else [])])]
    if old_s > STALE_S:
        lines.append(
            coloured(f"! this is {span(old_s)} old: the daemon's loop does not turn", "red", on=colour)
        )
    if status.dry_run:
        lines.append(coloured("! --dry-run: nothing that it decides is done", "yellow", on=colour))
    if status.config_refused:
        text = f"! the last reload was refused: {plain(status.config_refused)}"
        lines.append(coloured(text, "yellow", on=colour))
    if status.history != "ok":
        lines.append(coloured(f"! history {plain(status.history)}", "yellow", on=colour))
    return lines


def _host(host: HostStatus, *, colour: bool) -> list[str]:
    missing = host.missing
    available = _reading(host.memory_available_bytes, "memory_available_bytes", missing)
    total = _reading(host.memory_total_bytes, "memory_total_bytes", missing)
    swap = _reading(host.swap_used_bytes, "swap_used_bytes", missing)
    stalled = UNKNOWN if host.psi_full_avg10 is None else f"{host.psi_full_avg10:.1f}%"
    pressure = coloured(host.pressure, PRESSURE_COLOURS.get(host.pressure), on=colour)
    line = (
        f"host    {available} of {total} available, swap {swap} used, stalled {stalled}, pressure {pressure}"
    )
    return [line, *(INDENT + reason for reason in _reasons(missing))]


def _gpu(gpu: GpuStatus, *, colour: bool) -> list[str]:
    used = _reading(gpu.memory_used_bytes, "memory_used_bytes", gpu.missing)
    total = _reading(gpu.memory_total_bytes, "memory_total_bytes", gpu.missing)
    figures = (
        _number(gpu.utilization_percent, "%"),
        _number(gpu.temperature_c, " C"),
        f"{_number(gpu.power_w, '')} of {_number(gpu.power_limit_w, ' W')}",
    )
    pressure = coloured(gpu.pressure, PRESSURE_COLOURS.get(gpu.pressure), on=colour)
    shared = ", shared with the host" if gpu.unified else ""
    lines = [
        f"GPU {gpu.index:<3} {used} of {total} used, {', '.join(figures)}, pressure {pressure}{shared}",
        f"{INDENT}{plain(gpu.name)}, {gpu.uuid}",
    ]
    if gpu.throttle:
        lines.append(INDENT + coloured(f"throttled: {', '.join(gpu.throttle)}", "yellow", on=colour))
    if gpu.last_xid is not None:
        last = gpu.last_xid
        text = f"Xids: {gpu.xids}, the last {last.at}: {last.code}, {plain(last.text)}"
        lines.append(INDENT + coloured(text, "yellow", on=colour))
    if gpu.state != "ok":
        lines.append(INDENT + coloured(f"state {gpu.state}", "red", on=colour))
    if gpu.quarantine:
        lines.append(INDENT + coloured(f"quarantined: {plain(gpu.quarantine)}", "red", on=colour))
    if gpu.read_age_s > GPU_OLD_S:
        lines.append(f"{INDENT}read {span(gpu.read_age_s)} ago")
    return lines + [INDENT + reason for reason in _reasons(gpu.missing)]


def _without_vram(worker: WorkerStatus) -> WorkerStatus:
    """Leave out what is unknown of every worker for the one reason that is said above."""
    missing = {key: why for key, why in worker.missing.items() if key != "vram_bytes"}
    return replace(worker, missing=missing)


def _workers(workers: Sequence[WorkerStatus], columns: int, *, colour: bool) -> list[str]:
    if not workers:
        return ["no workers are configured"]
    rows = [HEADER, *(_cells(worker) for worker in workers)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    # Where the row is too wide, names go on lines of their own.
    apart = sum(widths) + 2 * (len(widths) - 1) > columns
    if apart:
        widths[0] = len(INDENT) - 2
    lines = ["  ".join(text.ljust(width) for text, width in zip(HEADER, widths, strict=True)).rstrip()]
    for worker, row in zip(workers, rows[1:], strict=True):
        if apart:
            lines.append(row[0])
        cells = [
            text.ljust(width) for text, width in zip(("", *row[1:]) if apart else row, widths, strict=True)
        ]
        cells[1] = coloured(cells[1], PHASE_COLOURS.get(worker.phase, "yellow"), on=colour)
        lines.append("  ".join(cells).rstrip())
        for text, shade in details_of(worker):
            lines += [coloured(line, shade, on=colour) for line in _wrapped(text, columns)]
    return lines


def _cells(worker: WorkerStatus) -> tuple[str, ...]:
    age = NONE if worker.age_s is None else span(worker.age_s)
    return (
        worker.name,
        worker.phase,
        NONE if worker.pid is None else str(worker.pid),
        age if worker.max_age_s is None or worker.age_s is None else f"{age}/{span(worker.max_age_s)}",
        NONE if worker.restart_in_s is None else span(worker.restart_in_s),
        _against(worker.memory_bytes, worker.memory_cap_bytes, "memory_bytes", worker.missing),
        _against(worker.vram_bytes, worker.vram_cap_bytes, "vram_bytes", worker.missing),
        str(worker.restarts),
    )


def details_of(worker: WorkerStatus) -> Iterator[tuple[str, Colour | None]]:
    """Yield what has no column: why it is where it is, and why it was restarted last."""
    if worker.held:
        yield f"held: {worker.held}", "red"
    if worker.done:
        yield f"done: {worker.done}; `gpu-supervisor start {worker.name}` runs it again", "green"
    if worker.waits_for:
        yield f"waits for {worker.waits_for}", "yellow"
    if worker.last_restart is not None:
        last = worker.last_restart
        yield f"last restart {last.at}: {last.cause}, {last.reason}", None
    if worker.rung or worker.oom_events:
        yield f"rung {worker.rung} after {worker.oom_events} times out of memory", "yellow"
    if worker.forecast_s is not None:
        yield f"leaks: reaches its cap in {span(worker.forecast_s)} at this rate", "yellow"
    if worker.reported is not None:
        yield _reported(worker.reported), PRESSURE_COLOURS.get(worker.reported.level or "")
    for reason in _reasons(worker.missing):
        yield reason, None


def _reported(told: ReportedStatus) -> str:
    """Write what a worker says of itself: its level, how it degrades, where its job stands."""
    words = [f"reports: memory {told.level or UNKNOWN}"]
    memory, job = told.memory, told.progress
    if memory is not None and memory.usage_percent is not None:
        words[0] += f", {memory.usage_percent:.0f}% used"
    if memory is not None and memory.oom_events:
        words.append(f"out of memory {memory.oom_events} times, {memory.recoveries} recovered")
    if memory is not None and memory.degradation_level:
        words.append(f"degraded {memory.degradation_level} times")
    if job is not None:
        total = "" if job.total is None else f" of {job.total}"
        left = "" if job.eta_s is None else f", {span(job.eta_s)} left"
        words.append(f"job {job.job} {job.state}, {job.done}{total}{left}".replace("  ", " "))
    if told.draining:
        words.append("drained" if told.drained else "draining")
    if told.report_age_s > REPORT_OLD_S:
        words.append(f"{span(told.report_age_s)} ago")
    return "; ".join(words)


def _wrapped(text: str, columns: int) -> list[str]:
    """Fold a detail below its row."""
    return wrap(
        plain(text),
        max(columns, 40),
        initial_indent=INDENT,
        subsequent_indent=INDENT + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _against(used: int | None, cap: int | None, key: str, missing: Mapping[str, str]) -> str:
    text = _reading(used, key, missing)
    return text if cap is None or text == NONE else f"{text}/{size(cap)}"


def _reading(size_bytes: int | None, key: str, missing: Mapping[str, str]) -> str:
    """Write a size; `?` where it could not be read, `-` where there is nothing to read."""
    if size_bytes is not None:
        return size(size_bytes)
    return UNKNOWN if key in missing else NONE


def _number(value: float | None, unit: str) -> str:
    return UNKNOWN if value is None else f"{value:.0f}{unit}"


def _reasons(missing: Mapping[str, str]) -> list[str]:
    """Say why readings are unknown, once for each reason."""
    keys: dict[str, list[str]] = {}
    for key, why in missing.items():
        keys.setdefault(why, []).append(key)
    return [f"? {', '.join(found)}: {plain(why)}" for why, found in keys.items()]
