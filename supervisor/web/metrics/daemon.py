"""The families of the supervisor itself, and of its alerts."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final

from msgspec import Struct

from supervisor.model.alert import AlertStatus
from supervisor.model.status import GpuStatus, SelfStatus, Status
from supervisor.web.metrics.family import Family, Point, counter, gauge, info, unix_time


def _own(read: Callable[[SelfStatus], float]) -> Callable[[Status], float | None]:
    return lambda status: None if status.supervisor is None else read(status.supervisor)


def _turns(status: Status) -> Iterator[Point]:
    own = status.supervisor
    if own is None or not own.turn_counts:
        return
    bounds = (*(str(float(bound)) for bound in own.turn_bounds_s), "+Inf")
    for bound, turns in zip(bounds, accumulate(own.turn_counts), strict=True):
        yield "_bucket", {"le": bound}, turns
    yield "_count", {}, sum(own.turn_counts)
    yield "_sum", {}, own.turns_s


UP: Final[Family[bool]] = gauge(
    "up", "1 while the supervisor answers; 0: nothing else is known, and nothing else is told", float
)

SUPERVISOR: Final[tuple[Family[Status], ...]] = (
    info(
        "build",
        "What runs",
        ("version", "launcher"),
        lambda status: {"version": status.version, "launcher": status.launcher},
    ),
    gauge(
        "start_time_seconds", "Unix time at which the supervisor began", _own(lambda own: own.started_wall_s)
    ),
    gauge(
        "last_turn_timestamp_seconds",
        "Unix time of the last turn that was published",
        lambda status: unix_time(status.taken_at),
    ),
    Family(
        "turn_duration_seconds",
        "histogram",
        "How long turns took: to sense, to decide and to act",
        _turns,
        ("le",),
    ),
    counter("readings_missing", "Readings that could not be had", _own(lambda own: own.readings_missing)),
    counter(
        "adopted", "Workers that were taken over from an earlier supervisor", _own(lambda own: own.adopted)
    ),
    counter("quarantines", "Times that a GPU was quarantined", _own(lambda own: own.quarantines)),
    counter(
        "history_dropped",
        "Rows of the history that were lost because the disk did not keep up",
        _own(lambda own: own.history_dropped),
    ),
    gauge(
        "config_refused",
        "1 while the config on disk was refused, and the one before it is in force",
        lambda status: float(status.config_refused is not None),
    ),
)


class Raised(Struct, frozen=True):
    """An alert, and the index of each GPU by its UUID."""

    alert: AlertStatus
    indices: Mapping[str, int]


def firing(alerts: Iterable[AlertStatus], gpus: Iterable[GpuStatus]) -> Iterator[Raised]:
    """Yield the alerts that fire, each once: a series that comes twice spoils a scrape."""
    indices = {gpu.uuid: gpu.index for gpu in gpus}
    found = {(one.name, one.severity, one.worker, one.gpu): one for one in alerts if one.state == "firing"}
    return (Raised(alert, indices) for alert in found.values())


def _raised(raised: Raised) -> Iterator[Point]:
    alert = raised.alert
    labels = {"alert": alert.name, "severity": alert.severity}
    if alert.worker is not None:
        labels["worker"] = alert.worker
    if alert.gpu is not None:
        labels["uuid"] = alert.gpu
        if alert.gpu in raised.indices:
            labels["gpu"] = str(raised.indices[alert.gpu])
    yield "", labels, 1


ALERT: Final[Family[Raised]] = Family(
    "alert_firing",
    "gauge",
    "1 for each alert of the supervisor's own rules that is firing",
    _raised,
    ("alert", "severity", "worker", "gpu", "uuid"),
)
