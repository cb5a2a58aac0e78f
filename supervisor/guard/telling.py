"""Tells how far a run is: the caller's progress bar after each delivery, the supervisor once a second."""

from collections.abc import Callable, Collection
from typing import Final, Protocol

from supervisor.guard.events import warn
from supervisor.guard.lane import Lane

EVERY_S: Final = 1.0


class Bar(Protocol):
    """A progress bar, as tqdm's."""

    def update(self, n: int, /) -> object:
        """Take `n` more items."""


Progress = Bar | Callable[[int, int | None], object]
"""A bar, or what is called with the items done, and how many there are where that is known."""


class Supervisor(Protocol):
    """What a runner says to the supervisor, and hears from it."""

    @property
    def advice(self) -> Collection[str]:
        """The words that hold now."""
        ...

    def progress(  # noqa: PLR0913 - the keys of a report
        self,
        *,
        job: str = "",
        state: str = "processing",
        done: int = 0,
        total: int | None = None,
        batch_size: int | None = None,
        throughput: float | None = None,
        eta_s: float | None = None,
    ) -> object:
        """Tell how far a job is; it is a heartbeat too."""

    def batches(self, figures: dict[str, object], /) -> object:
        """Tell the figures of a runner."""


class Telling:
    """How far one run is."""

    def __init__(
        self,
        progress: Progress | None,
        supervisor: Supervisor | None,
        total: int | None,
        clock: Callable[[], float],
    ) -> None:
        """Begin with nothing done."""
        self._progress = progress
        self._supervisor = supervisor
        self._total = total
        self._clock = clock
        self._began_s = clock()
        self._told_s: float | None = None
        self._done = 0

    def advice(self) -> Collection[str]:
        """Return the supervisor's words that hold now."""
        return () if self._supervisor is None else self._supervisor.advice

    def delivered(self, count: int) -> None:
        """Move the bar by `count` more items."""
        self._done += count
        if self._progress is not None:
            self._move_bar(count)

    def report(self, lane: Lane, figures: Callable[[], dict[str, object]]) -> None:
        """Tell the supervisor, unless it was told within the last second."""
        if self._supervisor is None:
            return
        if self._told_s is None or self._clock() - self._told_s >= EVERY_S:
            self.tell("processing", lane, figures)

    def left(self) -> int | None:
        """Return how many items are still to be delivered, where that is known."""
        return None if self._total is None else max(0, self._total - self._done)

    def tell(self, state: str, lane: Lane, figures: Callable[[], dict[str, object]]) -> None:
        """Tell the supervisor, if there is one."""
        if self._supervisor is None:
            return
        self._told_s = self._clock()
        took_s = self._told_s - self._began_s
        throughput = self._done / took_s if self._done and took_s > 0 else None
        left = self.left()
        self._supervisor.batches(figures())  # sent with the progress
        self._supervisor.progress(
            job=lane.name,
            state=state,
            done=self._done,
            total=self._total,
            batch_size=lane.standing.size,
            throughput=throughput,
            eta_s=None if left is None or throughput is None else left / throughput,
        )

    def _move_bar(self, count: int) -> None:
        try:
            update = getattr(self._progress, "update", None)
            if update is not None:
                update(count)
            elif callable(self._progress):
                self._progress(self._done, self._total)
        except Exception as error:  # noqa: BLE001 - a broken bar is no reason to lose work
            self._progress = None
            warn("progress is no longer shown: %s", error)
