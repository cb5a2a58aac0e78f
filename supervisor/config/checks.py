"""Faults of the whole file that no single key shows: levels out of order, unknown names, circles."""

from collections.abc import Iterator, Mapping

from supervisor.config.check_worker import check_file, check_worker
from supervisor.config.fault import Report, quoted
from supervisor.config.scalars import nearest
from supervisor.config.shape import ConfigShape, WorkerShape
from supervisor.model.quantity import format_percent, format_size


def check(shape: ConfigShape, report: Report) -> None:
    """Add every fault of the whole file's combinations to the report."""
    _check_host(shape, report)
    _check_levels(shape, report)
    if shape.web.token_file is not None:
        check_file(shape.web.token_file, ("web", "token_file"), report)
    for name, worker in shape.workers.items():
        check_worker(name, worker, report)
    _check_after(shape.workers, report)


def _check_host(shape: ConfigShape, report: Report) -> None:
    host = shape.host
    if host.critical_available and host.critical_available >= host.warn_available and not report.bad("host"):
        critical, warn = format_size(host.critical_available), format_size(host.warn_available)
        why = f"{critical} must be below warn_available, {warn}"
        report.fault(("host", "critical_available"), why)


def _check_levels(shape: ConfigShape, report: Report) -> None:
    levels, path = shape.gpu.pressure, ("gpu", "pressure")
    if report.bad(*path):
        return
    for low, high in (("high", "critical"), ("critical", "extreme")):
        below, above = getattr(levels, low), getattr(levels, high)
        if below >= above:
            why = f"{format_percent(above)} must be above {low}, {format_percent(below)}"
            report.fault((*path, high), why)
    if levels.hysteresis >= levels.high:
        report.fault(
            (*path, "hysteresis"), f"must be below high, {format_percent(levels.high)}, or no level ever ends"
        )


def _check_after(workers: Mapping[str, WorkerShape], report: Report) -> None:
    for name, worker in workers.items():
        for index, other in enumerate(worker.after):
            if other not in workers and not report.bad("workers", other):
                why = f"there is no worker {quoted(other)}{nearest(other, workers)}"
                report.fault(("workers", name, "after", index), why)
    for circle in _circles(workers):
        why = f"waits for itself: {' -> '.join((*circle, circle[0]))}"
        report.fault(("workers", circle[0], "after"), why)


def _circles(workers: Mapping[str, WorkerShape]) -> Iterator[tuple[str, ...]]:
    """Yield each circle of `after` that a walk finds, from its first worker on."""
    done: set[str] = set()
    for start in workers:
        trail: dict[str, Iterator[str]] = {} if start in done else {start: iter(workers[start].after)}
        while trail:
            name, others = next(reversed(trail.items()))
            other = next(others, None)
            if other is None:
                done.add(name)
                del trail[name]
            elif other in trail:
                names = list(trail)
                yield tuple(names[names.index(other) :])
            elif other in workers and other not in done:
                trail[other] = iter(workers[other].after)
