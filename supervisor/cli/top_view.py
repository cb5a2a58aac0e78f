"""What the screen of `top` says, from what the daemon told; pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal

from rich.text import Text

from supervisor.cli.figures import size, span
from supervisor.cli.status_table import details_of
from supervisor.cli.terminal import plain
from supervisor.cli.top_marks import bar, sparkline
from supervisor.model.course import Course
from supervisor.model.event import Told
from supervisor.model.phase import Phase, Pressure
from supervisor.model.status import GpuStatus, HostStatus, Status, WorkerStatus

COLUMNS: Final = (
    "WORKER",
    "PHASE",
    "AGE",
    "LEFT",
    "MEMORY",
    "",
    "LAST HOUR",
    "VRAM",
    "RESTARTS",
    "LAST CAUSE",
)
Order = Literal["config", "name", "memory", "vram", "age", "restarts"]
ORDERS: Final[tuple[Order, ...]] = ("config", "memory", "vram", "age", "restarts", "name")

GAUGE: Final = 24
WORKER_BAR: Final = 8
HOUR: Final = 20  # three minutes each
NONE: Final = "-"
UNKNOWN: Final = "?"
NEAR: Final = 0.9  # of a cap: worth a second look

PRESSURE_STYLES: Final[Mapping[str, str]] = {
    Pressure.NORMAL: "green",
    Pressure.HIGH: "yellow",
    Pressure.CRITICAL: "red",
    Pressure.EXTREME: "bold red",
}
PHASE_STYLES: Final[Mapping[str, str]] = {Phase.READY: "green", Phase.HELD: "bold red", Phase.STOPPED: "dim"}
LEVEL_STYLES: Final[Mapping[str, str]] = {"warning": "yellow", "error": "bold red"}


def machine(status: Status) -> Text:
    """Return the lines of the host and the GPUs."""
    lines = [_host(status.host), *(_gpu(gpu) for gpu in status.gpus)]
    if status.gpu_missing is not None:
        lines.append(Text(f"GPU    none is watched: {plain(status.gpu_missing)}"))
    return Text("\n").join(lines)


def _host(host: HostStatus) -> Text:
    total, available = host.memory_total_bytes, host.memory_available_bytes
    used = None if total is None or available is None else total - available
    stalled = UNKNOWN if host.psi_full_avg10 is None else f"{host.psi_full_avg10:.1f}%"
    figures = f"swap {_size(host.swap_used_bytes)}, stalled {stalled}"
    return _gauge("host", used, total, host.pressure, figures)


def _gpu(gpu: GpuStatus) -> Text:
    figures = (
        f"{_number(gpu.utilization_percent, '%')}, {_number(gpu.temperature_c, ' C')}, "
        f"{_number(gpu.power_w, '')}/{_number(gpu.power_limit_w, ' W')}  {plain(gpu.name)}"
    )
    line = _gauge(f"GPU {gpu.index}", gpu.memory_used_bytes, gpu.memory_total_bytes, gpu.pressure, figures)
    if gpu.state != "ok":
        line.append(f"  {gpu.state}", "bold red")
    if gpu.quarantine is not None:
        line.append(f"  quarantined: {plain(gpu.quarantine)}", "bold red")
    return line


def _gauge(name: str, used: int | None, total: int | None, pressure: str, figures: str) -> Text:
    part = None if used is None or not total else used / total
    percent = f"{UNKNOWN:>4}" if part is None else f"{part:>4.0%}"
    style = PRESSURE_STYLES.get(pressure, "")
    line = Text(f"{name:<7}")
    line.append(bar(part, GAUGE), style)
    line.append(f" {percent} {_size(used):>5} of {_size(total):<5} ")
    line.append(f"{pressure:<8}", style)
    return line.append(f" {figures}")


def row(worker: WorkerStatus, course: Course | None) -> tuple[Text, ...]:
    """Return the cells of one worker, in the order of COLUMNS."""
    age = NONE if worker.age_s is None else span(worker.age_s)
    if worker.age_s is not None and worker.max_age_s is not None:
        age += f"/{span(worker.max_age_s)}"
    memory, cap = worker.memory_bytes, worker.memory_cap_bytes
    part = None if memory is None or not cap else memory / cap
    hour = "" if course is None else sparkline(course.memory_bytes, HOUR)
    near = "red" if part is not None and part >= NEAR else "cyan"
    return (
        Text(worker.name),
        Text(worker.phase, PHASE_STYLES.get(worker.phase, "yellow")),
        Text(age),
        Text(_left(worker)),
        Text(_against(memory, cap, "memory_bytes", worker.missing), near if near == "red" else ""),
        Text(" " * WORKER_BAR if part is None else bar(part, WORKER_BAR), near),
        Text(hour, "cyan"),
        Text(_against(worker.vram_bytes, worker.vram_cap_bytes, "vram_bytes", worker.missing)),
        Text(str(worker.restarts)),
        Text(NONE if worker.last_restart is None else worker.last_restart.cause),
    )


def _left(worker: WorkerStatus) -> str:
    """Return how long it may live on: to its age, or to its cap where it leaks and that comes first."""
    ends = [(worker.restart_in_s, ""), (worker.forecast_s, " leak")]
    found = [(in_s, why) for in_s, why in ends if in_s is not None]
    return NONE if not found else "".join((span(min(found)[0]), min(found)[1]))


def detail(worker: WorkerStatus) -> Text:
    """Return everything about one worker that has no column."""
    words = [worker.name, f"pid {worker.pid}" if worker.pid is not None else "no process"]
    if worker.unit is not None:
        words.append(worker.unit)
    if worker.processes > 1:
        words.append(f"{worker.processes} processes")
    if worker.settings:
        words.append(" ".join(f"{key}={value}" for key, value in worker.settings.items()))
    if worker.memory_file_bytes:
        words.append(f"{size(worker.memory_file_bytes)} of mapped files")
    lines = [Text(plain(", ".join(words)), "bold")]
    lines += [Text(plain(text), shade or "") for text, shade in details_of(worker)]
    if worker.held is not None:
        lines.append(Text(f"x releases it, as `gpu-supervisor reset {worker.name}` does", "dim"))
    return Text("\n").join(lines)


def told(one: Told) -> Text:
    """Return one line of what happened."""
    at = datetime.fromtimestamp(one.wall_s).astimezone().strftime("%H:%M:%S")
    line = Text(f"{at} ", "dim")
    line.append(plain(one.event), LEVEL_STYLES.get(one.level, ""))
    for word in (one.worker, one.gpu, one.cause):
        if word is not None:
            line.append(f" {plain(word)}", "cyan" if word == one.worker else "")
    return line.append(f" {plain(one.reason)}", "dim")


def arranged(workers: Sequence[WorkerStatus], order: Order, wanted: str) -> list[WorkerStatus]:
    """Return the workers whose name or phase holds `wanted`, in an order; the largest first."""
    found = [worker for worker in workers if wanted in worker.name or wanted in worker.phase]
    if order == "config":
        return found
    if order == "name":
        return sorted(found, key=lambda worker: worker.name)
    keys = {"memory": "memory_bytes", "vram": "vram_bytes", "age": "age_s", "restarts": "restarts"}
    return sorted(found, key=lambda worker: -(getattr(worker, keys[order]) or 0))


def title(status: Status, order: Order, wanted: str) -> str:
    """Return what stands at the top of the screen."""
    return ", ".join(_title(status, order, wanted))


def _title(status: Status, order: Order, wanted: str) -> Iterator[str]:
    phases = [worker.phase for worker in status.workers]
    yield f"gpu-supervisor {status.version}"
    yield f"up {span(status.uptime_s)}"
    yield f"{phases.count(Phase.READY)} of {len(phases)} workers ready"
    if held := phases.count(Phase.HELD):
        yield f"{held} held"
    if order != "config":
        yield f"by {order}"
    if wanted:
        yield f"of {wanted!r}"


def _against(used: int | None, cap: int | None, key: str, missing: Mapping[str, str]) -> str:
    if used is None:
        return UNKNOWN if key in missing else NONE
    return size(used) if cap is None else f"{size(used)}/{size(cap)}"


def _size(size_bytes: int | None) -> str:
    return UNKNOWN if size_bytes is None else size(size_bytes)


def _number(value: float | None, unit: str) -> str:
    return UNKNOWN if value is None else f"{value:.0f}{unit}"
