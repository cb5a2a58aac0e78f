"""One call of a function with a batch: what came of it, and what its error may still hold."""

import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from itertools import islice
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast

from supervisor.guard.loaded import loaded

T = TypeVar("T")
R = TypeVar("R")


class Failed(NamedTuple, Generic[T]):
    """Stands in the place of a result: the item that has none, and why.

    The error keeps its traceback, for reading; what the frames of it held is let go.
    """

    item: T
    error: Exception


class Returned(NamedTuple, Generic[R]):
    """The results of a call, one for each item."""

    results: list[R]


class Raised(NamedTuple):
    """The error of a call."""

    error: Exception


class Mismatched(NamedTuple):
    """A call whose results cannot be told apart by item, in words."""

    error: ValueError


class Overdue(NamedTuple):
    """A call that was not waited for any longer; `stuck` where it may still be running.

    None for a call that was not begun, since too many others hang.
    """

    limit_s: float | None
    stuck: bool


_SUSPENDABLE: Final = (
    0x20 | 0x80 | 0x200
)  # generators and coroutines, as inspect has it, which takes 5 ms to import
_NO_THREAD: Final = "can't start new thread"  # of threading, where the system refuses one or its stack
Outcome = Returned[R] | Raised | Mismatched | Overdue


def call(function: Callable[[list[T]], Iterable[R]], items: list[T]) -> Outcome[R]:
    """Call `function` with a list of its own, and take as many results as there are items."""
    outcome = _call(function, items)
    if isinstance(outcome, Raised):
        let_go(outcome.error)
    return outcome


def _call(function: Callable[[list[T]], Iterable[R]], items: list[T]) -> Outcome[R]:
    try:
        return matched(function(list(items)), len(items))
    except Exception as error:  # noqa: BLE001 - of whatever kind, it is judged outside of the `except`
        return Raised(error)


def matched(results: object, count: int) -> Returned[Any] | Mismatched:
    """Return the results as a list of `count`, or why they are not that."""
    if not hasattr(results, "__iter__"):
        close = getattr(results, "close", None)  # a coroutine that nobody awaits says so when it ends
        if close is not None:
            close()
        what = f"a {type(results).__name__}, no sequence"
    else:
        found = list(islice(cast("Iterable[Any]", results), count + 1))
        if len(found) == count:
            return Returned(found)
        what = f"{'more' if len(found) > count else len(found)} results"
    return Mismatched(
        ValueError(f"cannot match results to items: {count} items were given, {what} came back")
    )


def let_go(error: BaseException) -> None:
    """Clear the frames that an error's traceback, and those it came from, keep: they hold tensors."""
    seen: set[int] = set()
    found: list[BaseException | None] = [error]
    for each in found:  # which grows
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        trace = each.__traceback__
        while trace is not None:
            frame, trace = trace.tb_frame, trace.tb_next
            # One that is suspended is alive, and before Python 3.13 to clear it would close its generator.
            if frame.f_back is None and frame.f_code.co_flags & _SUSPENDABLE:
                continue
            with suppress(RuntimeError):  # it still runs
                frame.clear()
        found += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]


class Worker(Generic[T, R]):
    """Calls a function in a thread, so that the wait for it can end before it does.

    Nothing ends the thread of a call that hangs. It is waited for once more, as long again, before the call
    counts as stuck; where `most` are stuck, no further one is begun, and every call is overdue at once.
    """

    def __init__(self, function: Callable[[list[T]], Iterable[R]], most: int) -> None:
        """Begin with no thread."""
        self._function = function
        self._most = most
        self._stuck: list[threading.Thread] = []
        self._lock = threading.RLock()  # a signal handler may ask for the figures

    def stuck(self) -> int:
        """Count the calls that were given up and still run."""
        with self._lock:
            self._stuck = [thread for thread in self._stuck if thread.is_alive()]
            return len(self._stuck)

    def begin(
        self, items: list[T], told: Callable[[], None] | None = None
    ) -> "Running[R] | Overdue | Raised":
        """Begin a call, or tell why there is none; `told` is called in its thread at the end."""
        if self.stuck() >= self._most:
            return Overdue(None, stuck=True)
        try:
            return Running(self._function, items, told)
        except RuntimeError as error:
            if str(error) != _NO_THREAD:
                raise
        return Raised(MemoryError("cannot start a thread for a call: the system has no room for it"))

    def give_up(self, running: "Running[R]") -> None:
        """Count a call as stuck, as long as it runs."""
        with self._lock:
            self._stuck.append(running.thread)

    def call(self, items: list[T], limit_s: float) -> Outcome[R]:
        """Call the function, and wait for `limit_s`; a result that comes later is thrown away."""
        running = self.begin(items)
        if not isinstance(running, Running):
            return running
        if running.wait(limit_s):
            return running.outcome()
        if running.wait(limit_s):
            return Overdue(limit_s, stuck=False)
        self.give_up(running)
        return Overdue(limit_s, stuck=True)


class Running(Generic[R]):
    """A call in a thread of its own, in the context and the torch modes of whoever began it."""

    def __init__(
        self,
        function: Callable[[list[T]], Iterable[R]],
        items: list[T],
        told: Callable[[], None] | None = None,
    ) -> None:
        """Begin it."""
        import contextvars  # noqa: PLC0415 - 1 ms that most runners never need

        self._outcome: Outcome[R] | BaseException | None = None
        context, modes = contextvars.copy_context(), _torch_modes()

        def work() -> None:
            try:
                with modes():
                    self._outcome = context.run(call, function, items)
            except BaseException as error:  # noqa: BLE001 - SystemExit and its like belong to who waits
                self._outcome = error
            if told is not None:
                told()

        self.thread = threading.Thread(target=work, name="batch", daemon=True)
        self.thread.start()

    def wait(self, limit_s: float) -> bool:
        """Wait for the end; tell whether it came."""
        self.thread.join(min(limit_s, threading.TIMEOUT_MAX))
        return not self.thread.is_alive()

    def outcome(self) -> Outcome[R]:
        """Return what came of it, once it has ended; raise what is no Exception here too."""
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        assert self._outcome is not None  # noqa: S101 - set before the thread ends
        return self._outcome


def _torch_modes() -> Callable[[], ExitStack]:
    """Return what enters, in another thread, the modes of torch that belong to this one.

    They are gradients on or off, inference mode, and the current CUDA device. Autocast and a stream that is
    not the default are not carried over.
    """
    torch = loaded("torch")
    if torch is None:
        return ExitStack
    gradients, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    device = torch.cuda.current_device() if torch.cuda.is_initialized() else None

    def enter() -> ExitStack:
        stack = ExitStack()
        stack.enter_context(torch.inference_mode(inference))
        stack.enter_context(torch.set_grad_enabled(gradients))
        if device is not None:
            stack.enter_context(torch.cuda.device(device))
        return stack

    return enter
