"""The families of each worker."""

from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct

from supervisor.model.phase import Cause, Phase
from supervisor.model.report import Progress
from supervisor.model.status import WorkerStatus
from supervisor.web.metrics.family import Family, Point, counter, gauge, states

_CAUSES: Final = tuple(cause.value for cause in Cause)


class Seen(Struct, frozen=True):
    """A worker, and when it was seen (Unix time)."""

    worker: WorkerStatus
    at_s: float


def _plain(name: str, meaning: str, read: Callable[[WorkerStatus], float | None]) -> Family[Seen]:
    return gauge(f"worker_{name}", meaning, lambda seen: read(seen.worker))


def _job(name: str, meaning: str, read: Callable[[Progress], float | None]) -> Family[Seen]:
    def value(worker: WorkerStatus) -> float | None:
        told = worker.reported
        return None if told is None or told.progress is None else read(told.progress)

    return _plain(name, meaning, value)


def _memory(seen: Seen) -> Iterator[Point]:
    worker = seen.worker
    for kind, value in (("anon", worker.memory_bytes), ("file", worker.memory_file_bytes)):
        if value is not None:
            yield "", {"kind": kind}, value


def _restarts(seen: Seen) -> Iterator[Point]:
    """Yield every cause, also those that never were: `increase()` does not see a series begin with 1."""
    times = seen.worker.restarts_by_cause
    for cause in dict.fromkeys((*_CAUSES, *times)):
        yield "_total", {"cause": cause}, times.get(cause, 0)


def _recoveries(seen: Seen) -> float | None:
    told = seen.worker.reported
    return None if told is None or told.memory is None else told.memory.recoveries


def _started(seen: Seen) -> float | None:
    age_s = seen.worker.age_s
    return None if age_s is None else round(seen.at_s - age_s)


def _batch_size(worker: WorkerStatus) -> float | None:
    told = worker.reported
    if told is None:
        return None
    if told.progress is not None and told.progress.batch_size is not None:
        return told.progress.batch_size
    return None if told.advice is None else told.advice.batch_size


def _items_per_second(worker: WorkerStatus) -> float | None:
    told = worker.reported
    if told is None:
        return None
    if told.progress is not None and told.progress.throughput is not None:
        return told.progress.throughput
    return None if told.batches is None else told.batches.throughput


WORKER: Final[tuple[Family[Seen], ...]] = (
    states(
        "worker_phase",
        "Where the worker is in its life: 1 for the phase that it is in",
        "phase",
        Phase,
        lambda seen: seen.worker.phase,
    ),
    _plain("ready", "1 while the worker is ready", lambda worker: float(worker.phase == Phase.READY)),
    _plain(
        "held",
        "1 while the worker is not started again until an operator says so",
        lambda worker: float(worker.phase == Phase.HELD),
    ),
    gauge("worker_start_time_seconds", "Unix time at which its life began, to about a second", _started),
    _plain("age_seconds", "Age of its life", lambda worker: worker.age_s),
    _plain("max_age_seconds", "Age at which it is restarted", lambda worker: worker.max_age_s),
    Family(
        "worker_memory_bytes",
        "gauge",
        "Memory of its whole process tree: anon is what its cap counts (anonymous, shared and swapped), "
        "file is mapped from files",
        _memory,
        ("kind",),
    ),
    _plain("memory_cap_bytes", "Cap of its anon memory", lambda worker: worker.memory_cap_bytes),
    _plain("vram_bytes", "GPU memory of its processes, on all its GPUs", lambda worker: worker.vram_bytes),
    _plain("vram_cap_bytes", "Cap of its GPU memory", lambda worker: worker.vram_cap_bytes),
    _plain(
        "forecast_seconds",
        "Time until it reaches a cap if it goes on to grow; absent while it does not",
        lambda worker: worker.forecast_s,
    ),
    _plain("rung", "Rung of its ladder that it runs on; 0 is its own settings", lambda worker: worker.rung),
    Family("worker_restarts", "counter", "Restarts, by cause", _restarts, ("cause",)),
    counter("worker_oom_events", "Times that it was out of memory", lambda seen: seen.worker.oom_events),
    counter(
        "worker_recoveries", "Times that it went on after it was out of memory, as it reports", _recoveries
    ),
    _plain("batch_size", "Items in a batch, as it reports", _batch_size),
    _plain("items_per_second", "Items done in a second, as it reports", _items_per_second),
    _job("job_done_items", "Items done of its job, as it reports", lambda job: job.done),
    _job("job_size_items", "Items of its job, as it reports", lambda job: job.total),
    _job("job_remaining_seconds", "Time left to its job, as it reports", lambda job: job.eta_s),
)
