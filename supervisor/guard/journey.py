"""One run of a runner: from its first item to its last, with what is told and felt on the way."""

from collections.abc import Callable
from types import TracebackType
from typing import Any

from supervisor.guard.batching import Batching
from supervisor.guard.events import warn
from supervisor.guard.lane import Lane
from supervisor.guard.portion import Call, Portion, Step
from supervisor.guard.telling import Telling
from supervisor.guard.watch import Watch


class Journey:
    """One run. Its end is told to the supervisor: completed, or failed where an error ended it.

    A run that the caller leaves early is neither: it stays where it was.
    """

    def __init__(
        self,
        lane: Lane,
        telling: Telling,
        watch: Watch,
        batching: Batching,
        figures: Callable[[], dict[str, object]],
    ) -> None:
        """Begin with nothing done."""
        self.lane = lane
        self.size = lane.standing.size
        self._telling = telling
        self._watch = watch
        self._batching = batching
        self._figures = figures
        self._took_s = 0.0

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        """Tell the end."""
        state = "completed"
        if kind is not None and not issubclass(kind, GeneratorExit):
            state = "failed"
        elif kind is not None and self._telling.left():
            state = "processing"
        self._telling.tell(state, self.lane, self._figures)

    def before(self) -> float:
        """Settle the size of the next batch; return how long to wait before it."""
        self._watch.look(self.lane)
        self.size = self.lane.ready()
        pause_s = self._watch.pause_s(self._took_s, self._telling.advice())
        self._took_s = 0.0
        return pause_s

    def took(self, step: Step[Any], portion: Portion[Any], took_s: float) -> None:
        """Count the time of a step; a call that took too long is told of, and tells against its size."""
        portion.busy_s += took_s
        if not isinstance(step, Call):
            return
        self._took_s += took_s
        if self._batching.timeout_s is None and took_s > step.limit_s:
            portion.overdue()
            warn("call overdue: %d items took %.1f s, more than %g", len(step.items), took_s, step.limit_s)

    def delivered(self, count: int, portion: Portion[Any]) -> None:
        """Tell of `count` more items, with the last of a portion also that it has recovered."""
        if portion.recovered:
            self._watch.memory.recovered(portion.recovered)
        self._telling.delivered(count)
        if not portion.refused:
            self._telling.report(self.lane, self._figures)
