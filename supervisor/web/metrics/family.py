"""A family of metrics: its name, its meaning, and how its values are taken from what it is about."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, Generic, Literal, TypeVar

from msgspec import Struct
from prometheus_client import Metric

PREFIX: Final = "gpu_supervisor_"
# What the names of a family's series end in, in both text formats.
ENDINGS: Final = {
    "gauge": ("",),
    "counter": ("_total",),
    "info": ("_info",),
    "histogram": ("_bucket", "_count", "_sum"),
}

About = TypeVar("About")
Labels = Mapping[str, str]
Point = tuple[str, Labels, float]  # the ending of its name, its labels beyond those of the subject, its value


class Family(Struct, Generic[About], frozen=True):
    """One family. `labels` are those beyond the labels of its subject."""

    name: str
    kind: Literal["gauge", "counter", "info", "histogram"]
    meaning: str
    points: Callable[[About], Iterable[Point]]
    labels: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """Return the name by which it is spoken of."""
        return PREFIX + self.name if self.kind == "histogram" else self.series[0]

    @property
    def series(self) -> tuple[str, ...]:
        """Return the names of its series."""
        return tuple(f"{PREFIX}{self.name}{ending}" for ending in ENDINGS[self.kind])

    def metric(self, subjects: Sequence[tuple[Labels, About]]) -> Metric:
        """Return the family with the values of all subjects."""
        metric = Metric(PREFIX + self.name, self.meaning, self.kind)
        for own, about in subjects:
            for ending, further, value in self.points(about):
                labels = {**own, **further}
                metric.add_sample(metric.name + ending, labels, value)
        return metric


def unix_time(text: str) -> float:
    """Read a time of the status document."""
    return datetime.fromisoformat(text).timestamp()


def gauge(name: str, meaning: str, read: Callable[[About], float | None]) -> Family[About]:
    """Return a family of one value that goes up and down; None is no series."""
    return Family(name, "gauge", meaning, _one("", read))


def counter(name: str, meaning: str, read: Callable[[About], float | None]) -> Family[About]:
    """Return a family of one value that only goes up, until what counts begins anew; None is no series."""
    return Family(name, "counter", meaning, _one("_total", read))


def _one(ending: str, read: Callable[[About], float | None]) -> Callable[[About], Iterable[Point]]:
    def points(about: About) -> Iterable[Point]:
        value = read(about)
        return () if value is None else ((ending, {}, value),)

    return points


def states(
    name: str, meaning: str, label: str, among: Iterable[str], read: Callable[[About], str]
) -> Family[About]:
    """Return a family with a series for each state: 1 for the one that it is in, 0 for the others."""
    every = tuple((each, {label: each}) for each in among)

    def points(about: About) -> Iterator[Point]:
        now = read(about)
        for state, labels in every:
            yield "", labels, float(state == now)

    return Family(name, "gauge", meaning, points, (label,))


def info(name: str, meaning: str, labels: tuple[str, ...], read: Callable[[About], Labels]) -> Family[About]:
    """Return a family whose value is 1 and whose labels are what it tells."""
    return Family(name, "info", meaning, lambda about: (("_info", read(about), 1.0),), labels)
