"""`/stats`: memory in the shape of the guard's `get_memory_stats()`, for the machine and for each worker."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

MIB: Final = 2**20
GIB: Final = 2**30
LEVELS: Final = ("normal", "high", "critical", "extreme")


def stats_of(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the machine's memory on all GPUs together, and what each worker that reports tells of its own.

    The machine's `allocated` and `reserved` are both what the driver says is in use: a driver does not
    tell the one from the other. `current_pressure` is the worst of the GPUs and the host,
    `degradation_level` the worst of the workers' rungs and of what they report; `oom_events` are deaths
    for want of memory and those that workers report to have survived, `recoveries` the latter alone.
    """
    workers: Sequence[Mapping[str, Any]] = status.get("workers", ())
    reports = {each["name"]: memory for each in workers if (memory := _reported(each)) is not None}
    gpus: Sequence[Mapping[str, Any]] = status.get("gpus", ())
    recoveries = _sum(memory.get("recoveries") for memory in reports.values())
    degraded = [each.get("rung", 0) for each in workers]
    degraded += [memory.get("degradation_level") or 0 for memory in reports.values()]
    survived = _sum(memory.get("oom_events") for memory in reports.values())
    machine = {
        "cuda_available": bool(gpus),
        "current_pressure": _worst([*(gpu.get("pressure") for gpu in gpus), _host(status).get("pressure")]),
        "oom_events": _sum(each.get("oom_events") for each in workers) + survived,
        "recoveries": recoveries,
        "degradation_level": max(degraded, default=0),
        **_memory(gpus, status.get("gpu_missing")),
    }
    return {"memory": machine, "workers": {name: {"memory": memory} for name, memory in reports.items()}}


def _memory(gpus: Sequence[Mapping[str, Any]], none: str | None) -> dict[str, Any]:
    """Return the sizes; null with its reason where one GPU could not be read."""
    used, why_used = _total(gpus, "memory_used_bytes", none)
    total, why_total = _total(gpus, "memory_total_bytes", none)
    percent = None if used is None or not total else round(100 * used / total, 2)
    sizes = {"allocated": used, "reserved": used, "total": total}
    values: dict[str, Any] = {}
    for name, size in sizes.items():
        values[f"{name}_mb"] = None if size is None else round(size / MIB, 2)
        values[f"{name}_gb"] = None if size is None else round(size / GIB, 3)
    values |= {"usage_percent": percent, "allocated_percent": percent}
    why = why_used or why_total or ""
    return {**values, "missing": {key: why for key, value in values.items() if value is None}}


def _total(gpus: Sequence[Mapping[str, Any]], key: str, none: str | None) -> tuple[int | None, str | None]:
    if not gpus:
        return None, none or "no GPU is watched"
    for gpu in gpus:
        if gpu.get(key) is None:
            why = gpu.get("missing", {}).get(key, "not read")
            return None, f"GPU {gpu.get('index')}: {why}"
    return sum(gpu[key] for gpu in gpus), None


def _reported(worker: Mapping[str, Any]) -> Mapping[str, Any] | None:
    reported: Mapping[str, Any] | None = worker.get("reported")
    return None if reported is None else reported.get("memory")


def _host(status: Mapping[str, Any]) -> Mapping[str, Any]:
    host: Mapping[str, Any] = status.get("host", {})
    return host


def _worst(levels: Sequence[object]) -> str:
    return max((level for level in LEVELS if level in levels), key=LEVELS.index, default="normal")


def _sum(counts: Iterable[int | None]) -> int:
    return sum(count or 0 for count in counts)
