"""Runs any number of items through a function of batches, and has a result for each, whatever fails."""

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Sized,
)
from itertools import islice
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast

from supervisor.guard.batching import Asked, decide, sizes_of
from supervisor.guard.calls import Failed, Outcome, Worker, call
from supervisor.guard.heat import Heat
from supervisor.guard.journey import Journey
from supervisor.guard.lane import Lane
from supervisor.guard.memory import MemoryManager
from supervisor.guard.portion import Call, Deliver, Leave, Portion, Recover, Step
from supervisor.guard.report import supervised
from supervisor.guard.tally import Tally
from supervisor.guard.telling import Progress, Supervisor, Telling
from supervisor.guard.watch import Outside, Watch

T = TypeVar("T")
R = TypeVar("R")

MOST_STUCK: Final = 4
"""So many calls may hang beside one another before no further one is begun."""
REPORTED: Final = ("success_rate", "throughput", "batch_efficiency", "recoveries", "peak_memory_bytes")
"""What of the figures the supervisor is told."""
_CO_COROUTINE: Final = 0x80  # as inspect has it, which takes 5 ms to import
_OUTSIDE: Final = Outside()
_HEAT: Final = Heat()


class Model(NamedTuple):
    """A model's best batch size, and those to fall back to."""

    batch_size: int = 12
    fallback: Sequence[int] = (6, 3, 1)


class BatchRunner(Generic[T, R]):
    """Runs `function` on batches. Safe to share: any thread or task may call `run` or `arun` at any time.

    `function` takes a list of items and returns as many results. Every item yields its result, or a `Failed`
    with the item and its error, once and in order. What ran out of memory is tried again in smaller batches,
    in the end one by one; what failed otherwise is split until the item is found that fails alone.
    """

    def __init__(  # noqa: PLR0913 - the contract, of which most callers write one or two
        self,
        function: Callable[[list[T]], Iterable[R]] | Callable[[list[T]], Awaitable[Iterable[R]]],
        batch_size: int = 12,
        min_batch_size: int | None = None,
        fallback: Sequence[int] = (6, 3, 1),
        *,
        threshold: float | None = None,
        max_retries: int | None = None,
        fallback_delay_s: float | None = None,
        timeout_s: float | None = None,
        quiet_s: float | None = None,
        memory: MemoryManager | None = None,
        models: Mapping[str, Model] | None = None,
        progress: Progress | None = None,
        supervisor: Supervisor | None = None,
        heat: Heat = _HEAT,
        outside: Outside = _OUTSIDE,
    ) -> None:
        """Begin at the best size. ValueError tells which argument or environment variable is wrong.

        `threshold` is a share of the device's memory, from 0 to 1 (else GPU_MEMORY_THRESHOLD, in percent).
        With `timeout_s` or ML_INFERENCE_TIMEOUT a function that is not async runs in a thread of its own;
        without, a call that takes longer than 60 s for each item is told of, and waited for. `quiet_s` lets
        the size grow again by itself. `models` gives the sizes for the names that `run` may be given.
        `progress` has a method `update(n)`, as tqdm has, or is called with the items done and their total.
        Without `memory` the host is watched, or the first GPU once torch works on it.
        """
        asked = Asked(threshold, min_batch_size, max_retries, fallback_delay_s, timeout_s)
        self._batching = decide(asked, outside.environment)
        self._function = cast("Callable[[list[T]], Any]", function)
        self._async = _is_async(function)
        self._worker: Worker[T, R] = Worker(self._function, MOST_STUCK)
        self._watch = Watch(memory, heat, self._batching.threshold, outside)
        self._progress = progress
        self._outside = outside
        self._supervisor = supervisor if supervisor is not None else _supervisor_of(outside)
        strict = min_batch_size is not None
        table = {"": Model(batch_size, fallback), **(models or {})}
        self._lanes = {name: self._lane(name, model, quiet_s, strict=strict) for name, model in table.items()}

    def run(self, items: Iterable[T], *, model: str = "") -> Generator[R | Failed[T], None, None]:
        """Yield the result of each of `items`, or a Failed, in their order.

        It reads no further ahead than the batch at hand. An error of `items` itself is raised when all that
        came before it is delivered. MemoryEmergency and `optuna.TrialPruned` of the function end the run, and
        are raised at once. TypeError for an async function, which is for `arun`; ValueError for a
        model that is not in the table.
        """
        if self._async:
            raise TypeError("cannot run an async function: use arun")
        return self._run(items, self._journey(items, model))

    def arun(
        self, items: Iterable[T] | AsyncIterable[T], *, model: str = ""
    ) -> AsyncGenerator[R | Failed[T], None]:
        """Yield as `run` does. A function that is not async runs in a thread, so that the loop goes on.

        An async function is cancelled when its time is up. Where the task is cancelled, a call that is under
        way in a thread runs on to its end, since nothing can stop it, and its results are thrown away.
        """
        return self._arun(items, self._journey(items, model))

    def reset(self, model: str | None = None) -> None:
        """Go back to the best size, for one model or all; the counts stay. For `memory`, reset it too."""
        for lane in self._lanes.values() if model is None else [self._lane_of(model)]:
            lane.reset()

    def stats(self) -> dict[str, object]:
        """Return the counts and figures of all models together, and of each in `models`.

        A batch counts once its last item is delivered. `success_rate` is the share of items that have a
        result, `throughput` items per second of calls and the waits between them, `batch_efficiency` the
        share of calls that returned results, `recoveries` the batches that failed in a call, and whose items
        all have results. Memory is what this process holds: by torch on a GPU, else its RSS.
        """
        total = Tally()
        for lane in self._lanes.values():
            total = total.plus(lane.tally)
        held = self._watch.footprint()
        return {
            **total.figures(),
            "current_memory_bytes": held.current_bytes,
            "peak_memory_bytes": held.peak_bytes,
            "stuck_calls": self._worker.stuck(),
            "models": {lane.name or "default": lane.figures() for lane in self._lanes.values()},
        }

    def _run(self, items: Iterable[T], journey: Journey) -> Generator[R | Failed[T], None, None]:
        source, ended, clock = iter(items), False, self._outside.clock
        with journey:
            while not ended:
                pause_s = journey.before()
                batch, ended, fault = _take(source, journey.size)
                self._wait(pause_s if batch else 0)
                portion = Portion(batch, journey.lane, self._batching)
                steps, outcome = portion.steps(), None
                while (step := _next(steps, outcome)) is not None:
                    outcome = None  # an error may hold what is to be freed
                    if isinstance(step, Deliver):
                        journey.delivered(len(step.values), portion)
                        yield from step.values
                    else:
                        began_s = clock()
                        outcome = self._do(step)
                        journey.took(step, portion, clock() - began_s)
                if fault is not None:
                    raise fault

    async def _arun(
        self, items: Iterable[T] | AsyncIterable[T], journey: Journey
    ) -> AsyncGenerator[R | Failed[T], None]:
        from supervisor.guard.calls_async import pause, take  # noqa: PLC0415 - asyncio costs 40 ms

        source = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
        ended, clock = False, self._outside.clock
        with journey:
            while not ended:
                pause_s = journey.before()
                batch, ended, fault = await take(source, journey.size)
                await pause(pause_s if batch else 0)
                portion = Portion(batch, journey.lane, self._batching)
                steps, outcome = portion.steps(), None
                while (step := _next(steps, outcome)) is not None:
                    outcome = None
                    if isinstance(step, Deliver):
                        journey.delivered(len(step.values), portion)
                        for value in step.values:
                            yield value
                    else:
                        began_s = clock()
                        outcome = await self._ado(step)
                        journey.took(step, portion, clock() - began_s)
                if fault is not None:
                    raise fault

    def _do(self, step: Call[T] | Recover | Leave) -> Outcome[R] | None:
        if isinstance(step, Call):
            if self._batching.timeout_s is None:
                return call(self._function, step.items)
            return self._worker.call(step.items, step.limit_s)
        if isinstance(step, Recover):
            self._watch.recover(step.failure)
            self._wait(step.delay_s)
        else:
            self._watch.lost(step.error)
        return None

    async def _ado(self, step: Call[T] | Recover | Leave) -> Outcome[R] | None:
        from supervisor.guard.calls_async import call_async, call_in_thread, pause  # noqa: PLC0415

        if isinstance(step, Call):
            if self._async:
                return await call_async(self._function, step.items, step.limit_s)
            limit_s = None if self._batching.timeout_s is None else step.limit_s
            return await call_in_thread(self._worker, step.items, limit_s)
        if isinstance(step, Recover):
            self._watch.recover(step.failure)
            await pause(step.delay_s)
        else:
            self._watch.lost(step.error)
        return None

    def _wait(self, pause_s: float) -> None:
        if pause_s:
            self._outside.sleep(pause_s)

    def _lane(self, name: str, model: Model, quiet_s: float | None, *, strict: bool) -> Lane:
        smallest = self._batching.smallest
        if not strict:  # what an operator says of all models holds as far as it can
            smallest = max(1, min(smallest, model.batch_size))
        return Lane(name, sizes_of(model.batch_size, model.fallback, smallest, quiet_s), self._outside.clock)

    def _journey(self, items: object, model: str) -> Journey:
        total = len(items) if isinstance(items, Sized) else None
        telling = Telling(self._progress, self._supervisor, total, self._outside.clock)
        return Journey(self._lane_of(model), telling, self._watch, self._batching, self._reported)

    def _lane_of(self, model: str) -> Lane:
        if model not in self._lanes:
            names = ", ".join(sorted(filter(None, self._lanes))) or "none"
            raise ValueError(f"cannot run model {model!r}: the table has {names}")
        return self._lanes[model]

    def _reported(self) -> dict[str, object]:
        stats = self.stats()
        return {key: stats[key] for key in REPORTED}


def _next(
    steps: Generator[Step[T], Outcome[Any] | None, None], outcome: Outcome[Any] | None
) -> Step[T] | None:
    try:
        return steps.send(outcome)
    except StopIteration:
        return None


def _take(source: Iterator[T], size: int) -> tuple[list[T], bool, Exception | None]:
    """Take up to `size` items; tell whether these were the last, and the error that ended them."""
    batch: list[T] = []
    try:
        batch.extend(islice(source, size))
    except Exception as error:  # noqa: BLE001 - the caller's own, raised again when the batch is done
        return batch, True, error
    return batch, len(batch) < size, None


def _is_async(function: object) -> bool:
    """Tell whether a function, or an object that is called, is `async def`; also below functools.partial."""
    while (inner := getattr(function, "func", None)) is not None:
        function = inner
    called = function if hasattr(function, "__code__") else getattr(type(function), "__call__", None)  # noqa: B004
    code = getattr(called, "__code__", None)
    return bool(code is not None and code.co_flags & _CO_COROUTINE)


def _supervisor_of(outside: Outside) -> Supervisor | None:
    """Return this process's supervisor, where there is one."""
    if not outside.environment.get("GPU_SUPERVISOR_SOCKET"):
        return None
    return supervised()
