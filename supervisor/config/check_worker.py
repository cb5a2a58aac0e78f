"""Faults of one worker that no single key shows: orders, braces, names of variables, missing files."""

import re
import stat
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path as File
from typing import Final

from supervisor.config.fault import Path, Report, quoted
from supervisor.config.scalars import nearest
from supervisor.config.shape import WorkerShape
from supervisor.model.fit import AUTO, AUTO_SETTINGS, LLAMA_SERVER, is_llama_server
from supervisor.model.plan import Setting
from supervisor.model.quantity import format_size, format_span
from supervisor.model.template import REPLICA, TemplateError, fill, names_in

WORKER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,40}", re.ASCII)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)  # as systemd takes them
_SETTING: Final = _VARIABLE
_MOST_RUNGS: Final = 64
_OURS: Final = frozenset(
    {
        "NOTIFY_SOCKET",
        "GPU_SUPERVISOR_RUN",
        "GPU_SUPERVISOR_SOCKET",
        "GPU_SUPERVISOR_WORKER",
        "GPU_SUPERVISOR_MEMORY_CAP",
        "GPU_SUPERVISOR_VRAM_CAP",
    }
)


def check_worker(name: str, worker: WorkerShape, report: Report) -> None:
    """Add every fault of one worker's combinations to the report."""
    path: Path = ("workers", name)
    if not WORKER_NAME.fullmatch(name):
        report.fault(path, "a worker's name is a-z, 0-9 and -, at most 41 of them, and no - at its front")
    if not report.bad(*path, "command") and not (worker.command and worker.command[0]):
        report.fault((*path, "command"), "is missing: a worker needs a program to run")
    _check_memory(worker, path, report)
    _check_needs(worker, path, report)
    _check_orders(worker, path, report)
    _check_braces(worker, path, report)
    _check_auto(worker, path, report)
    _check_environment(worker, path, report)
    if worker.directory is not None:
        check_file(worker.directory, (*path, "directory"), report, directory=True)
    if worker.environment_file is not None:
        check_file(worker.environment_file, (*path, "environment_file"), report)
    for key, who in (("user", worker.user), ("group", worker.group)):
        if who is not None and not who.strip():
            report.fault((*path, key), "is empty")


def _check_memory(worker: WorkerShape, path: Path, report: Report) -> None:
    """Hold cap < high <= max: the kernel's limits are there for what is quicker than the supervisor."""
    at = (*path, "memory")
    cap, high, highest = worker.memory.cap, worker.memory.high, worker.memory.max
    if cap is not None and high is not None and cap >= high:
        report.fault((*at, "high"), f"{format_size(high)} must be above cap, {format_size(cap)}")
    if cap is not None and highest is not None and cap >= highest:
        why = f"{format_size(highest)} must be above cap, {format_size(cap)}, or the kernel kills first"
        report.fault((*at, "max"), why)
    if high is not None and highest is not None and high > highest:
        report.fault((*at, "high"), f"{format_size(high)} must not be above max, {format_size(highest)}")


def _check_needs(worker: WorkerShape, path: Path, report: Report) -> None:
    for kind, need, cap in (
        ("memory", worker.needs.memory, worker.memory.cap),
        ("vram", worker.needs.vram, worker.vram.cap),
    ):
        if need is not None and cap is not None and need > cap:
            why = (
                f"{format_size(need)} is above {kind}.cap, {format_size(cap)}: it would be restarted for ever"
            )
            report.fault((*path, "needs", kind), why)


def _check_orders(worker: WorkerShape, path: Path, report: Report) -> None:
    breach, restart = worker.breach, worker.restart
    if breach.samples > breach.of and not report.bad(*path, "breach"):
        report.fault((*path, "breach", "samples"), f"{breach.samples} of {breach.of} readings can never be")
    if restart.first > restart.max and not report.bad(*path, "restart"):
        why = f"{format_span(restart.first)} must not be above max, {format_span(restart.max)}"
        report.fault((*path, "restart", "first"), why)
    if worker.max_age_jitter >= 1:
        report.fault((*path, "max_age_jitter"), "must be below 100%, or a life could have no length")


def _check_braces(worker: WorkerShape, path: Path, report: Report) -> None:
    """Fill every text on every rung for the first and the last replica: that shows every fault."""
    for name in worker.settings:
        if not _SETTING.fullmatch(name) or name == REPLICA:
            report.fault(
                (*path, "settings", name),
                "cannot stand in braces: a setting is a-z, 0-9 and _, and not replica",
            )
    ladder = worker.ladder or ()
    if len(ladder) > _MOST_RUNGS:
        report.fault((*path, "ladder"), f"has {len(ladder)} rungs, and {_MOST_RUNGS} is the most")
        return
    used_by_probes = frozenset[str]().union(*(names_in(text) for text in _probe_texts(worker)))
    for index, rung in enumerate(ladder):
        for name in sorted(rung.keys() - worker.settings.keys()):
            hint = nearest(name, worker.settings)
            report.fault(
                (*path, "ladder", index, name), f"settings holds no such value to fall back from{hint}"
            )
        for name in sorted(rung.keys() & used_by_probes):
            report.fault((*path, "ladder", index, name), "may not change: ready, health or drain uses it")
    replicas = (None,) if worker.replicas == 1 else (1, worker.replicas)
    for at, text in _texts(worker, path):
        for settings in accumulate(ladder, _overlaid, initial=worker.settings):
            for replica in replicas:
                _check_text(text, (settings, replica), at, report)


def _check_auto(worker: WorkerShape, path: Path, report: Report) -> None:
    """Hold `auto` to what is chosen at each start: settings of a llama.cpp server that its command uses."""
    used = frozenset[str]().union(*(names_in(text) for _, text in _texts(worker, path)))
    for name in AUTO_SETTINGS:
        if any(rung.get(name) == AUTO for rung in worker.ladder or ()):
            report.fault((*path, "ladder"), f"{name} cannot be auto on a rung: write what to fall back to")
        if worker.settings.get(name) != AUTO:
            continue
        at = (*path, "settings", name)
        if not is_llama_server(worker.preset, worker.command):
            why = f"can be auto for a llama.cpp server only ({LLAMA_SERVER}, or preset: {LLAMA_SERVER})"
            report.fault(at, why)
        elif name not in used:
            report.fault(at, f"is auto, and neither command nor environment uses {{{name}}}")


def _overlaid(settings: dict[str, Setting], rung: dict[str, Setting]) -> dict[str, Setting]:
    return settings | rung


def _check_text(
    text: str, filling: tuple[Mapping[str, Setting], int | None], at: Path, report: Report
) -> None:
    settings, replica = filling
    try:
        fill(text, settings, replica)
    except TemplateError as error:
        hints = (nearest(name, settings) for name in sorted(names_in(text) - settings.keys() - {REPLICA}))
        report.fault(at, f"{error}{next(hints, '')}")


def _texts(worker: WorkerShape, path: Path) -> Iterator[tuple[Path, str]]:
    """Yield what is filled at launch."""
    for index, word in enumerate(worker.command):
        yield (*path, "command", index), word
    for name, value in worker.environment.items():
        yield (*path, "environment", name), value


def _probe_texts(worker: WorkerShape) -> Iterator[str]:
    """Yield what is filled when the file is read."""
    ready, health, drain = worker.ready, worker.health, worker.drain
    found: list[str | None] = []
    if ready is not None:
        found += [ready.http, ready.tcp]
    if health is not None:
        found += [health.http, health.llama]
    if drain is not None:
        found += [drain.http, drain.llama, *(drain.command or ())]
    yield from (text for text in found if text)


def _check_environment(worker: WorkerShape, path: Path, report: Report) -> None:
    for name in worker.environment:
        if not _VARIABLE.fullmatch(name):
            report.fault((*path, "environment", name), "is no name of a variable")
        elif name in _OURS:
            report.fault((*path, "environment", name), "is set by the supervisor itself")


def check_file(name: str, path: Path, report: Report, *, directory: bool = False) -> None:
    """Add a fault where a path is not absolute, or is no file, or no directory where that is wanted."""
    if not name.startswith("/"):
        report.fault(path, f"{quoted(name)} must be an absolute path")
        return
    try:
        mode = File(name).stat().st_mode
    except OSError as error:
        report.fault(path, f"cannot use {quoted(name)}: {error.strerror}")
        return
    if stat.S_ISDIR(mode) != directory:
        report.fault(path, f"{quoted(name)} is {'not a directory' if directory else 'a directory'}")
