"""The page that is scraped."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from msgspec import Struct
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, Metric, generate_latest

from supervisor.model.alert import AlertStatus
from supervisor.model.status import Status
from supervisor.web.metrics.daemon import ALERT, SUPERVISOR, UP, firing
from supervisor.web.metrics.family import About, Family, Labels, unix_time
from supervisor.web.metrics.machine import GPU, HOST
from supervisor.web.metrics.workers import WORKER, Seen

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4


class Chapter(Struct, frozen=True):
    """Families with one subject, and the labels that tell one subject from another."""

    about: str
    labels: tuple[str, ...]
    families: tuple[Family[Any], ...]


CHAPTERS: Final = (
    Chapter("The supervisor", (), (UP, *SUPERVISOR)),
    Chapter("The host", (), HOST),
    Chapter("Each GPU", ("gpu", "uuid"), GPU),
    Chapter("Each worker", ("worker",), WORKER),
    Chapter("Alerts", (), (ALERT,)),
)


def render(status: Status | None, alerts: Sequence[AlertStatus] = ()) -> bytes:
    """Return the page; without a status the supervisor does not answer, and no more than that is told.

    With hundreds of workers it takes longer than a server may stand still (tests/bench/metrics.py): call it
    in a thread. OpenMetrics, which scrapers like better, would take twice as long and tell no more.
    """
    return generate_latest(_Page(status, alerts))


class _Page(Struct, frozen=True):
    """What prometheus-client asks for metrics."""

    status: Status | None
    alerts: Sequence[AlertStatus]

    def collect(self) -> Iterator[Metric]:
        """Yield every family that has a value."""
        return (metric for metric in self._metrics() if metric.samples)

    def _metrics(self) -> Iterator[Metric]:
        yield UP.metric([({}, self.status is not None)])
        status = self.status
        if status is None:
            return
        yield from _metrics(SUPERVISOR, [({}, status)])
        yield from _metrics(HOST, [({}, status.host)])
        yield from _metrics(GPU, [({"gpu": str(gpu.index), "uuid": gpu.uuid}, gpu) for gpu in status.gpus])
        at_s = unix_time(status.taken_at)
        yield from _metrics(
            WORKER, [({"worker": worker.name}, Seen(worker, at_s)) for worker in status.workers]
        )
        yield ALERT.metric([({}, raised) for raised in firing(self.alerts, status.gpus)])


def _metrics(families: Iterable[Family[About]], subjects: Sequence[tuple[Labels, About]]) -> Iterator[Metric]:
    return (family.metric(subjects) for family in families)
