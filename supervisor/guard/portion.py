"""The items of one batch on the way to their results: what is called, split, tried again and given up.

It does nothing itself: it yields what is to be done, and is sent what came of it. So whoever calls the
function, in this thread, another one or an event loop, follows the same rules.
"""

from collections import deque
from collections.abc import Generator
from typing import Any, Generic, NamedTuple, TypeVar

from supervisor.guard.batching import Batching
from supervisor.guard.calls import Failed, Mismatched, Outcome, Overdue, Raised, Returned
from supervisor.guard.lane import Lane
from supervisor.guard.oom import Failure, classify
from supervisor.guard.tally import Tally

T = TypeVar("T")


class Call(NamedTuple, Generic[T]):
    """Call the function with these, for at most so long; the outcome is to be sent."""

    items: list[T]
    limit_s: float


class Recover(NamedTuple):
    """Memory ran out: clear up, and wait so long."""

    failure: Failure
    delay_s: float


class Leave(NamedTuple):
    """The device's context is lost, and this process with it."""

    error: Exception


class Deliver(NamedTuple):
    """These are the next results, in order."""

    values: list[Any]


Step = Call[T] | Recover | Leave | Deliver


class _Piece(NamedTuple, Generic[T]):
    items: list[T]
    retries: int = 0
    """How often the one item that it holds was tried again."""

    def split(self, size: int) -> "list[_Piece[T]]":
        return [_Piece(self.items[at : at + size]) for at in range(0, len(self.items), size)]


class Portion(Generic[T]):
    """One batch's items, delivered each once and in order unless the emergency brake ends it all."""

    def __init__(self, items: list[T], lane: Lane, batching: Batching) -> None:
        """Begin with all of `items` still to do."""
        self._waiting: deque[_Piece[T]] = deque([_Piece(items)] if items else [])
        self._lane = lane
        self._batching = batching
        self._own_faults = 0  # calls that failed for an error which some item raised alone
        self._errors = 0  # calls that failed for an error other than memory's or time's
        self._tally = Tally(batches=1)
        self.busy_s = 0.0
        """Whoever takes the steps adds the time that they took."""
        self.refused = False
        """A call was not even begun: nothing here goes on, and nobody is to hear a heartbeat of it."""
        self.recovered = 0
        """How often memory ran out before all the items had results; told with the last of them."""

    def steps(self) -> Generator[Step[T], Outcome[Any] | None, None]:
        """Yield what is to be done until every item is delivered."""
        while self._waiting:
            piece = self._waiting.popleft()
            size = self._lane.standing.size
            if len(piece.items) > size:
                self._put_back(piece, size)
                continue
            outcome = yield Call(piece.items, self._batching.limit_s(len(piece.items)))
            step = self._judge(piece, outcome)
            del outcome  # before the retry: an error may hold what is to be freed
            if not self._waiting:  # before the last is delivered: a consumer may ask for no more
                self._settle()
            if step is not None:
                yield step

    def overdue(self) -> None:
        """Count the call that was just made as one that took too long, whatever came of it."""
        self._count(timeouts=1)

    def _judge(self, piece: _Piece[T], outcome: Outcome[Any] | None) -> Step[T] | None:
        count = len(piece.items)
        if isinstance(outcome, Returned):
            self._count(calls=1, useful_calls=1, items=count)
            self._lane.passed(count)
            return Deliver(outcome.results)
        if isinstance(outcome, Mismatched):
            self._count(calls=1)
            return self._give_up(piece, outcome.error)
        if isinstance(outcome, Overdue):
            return self._late(piece, outcome)
        assert isinstance(outcome, Raised)  # noqa: S101 - a Call is answered by an outcome
        return self._failed(piece, outcome.error)

    def _failed(self, piece: _Piece[T], error: Exception) -> Step[T] | None:
        self._count(calls=1)
        failure = classify(error)
        if failure is Failure.POISONED_CONTEXT:
            return Leave(error)
        if failure is Failure.BRAKE:
            raise error
        count = len(piece.items)
        if failure is not Failure.OTHER:
            self._count(out_of_memory=1)
            self._lane.run_out(count)
            if not self._try_again(piece, min(self._lane.standing.size, count - 1)):
                return self._give_up(piece, error)
            return Recover(failure, self._batching.fallback_delay_s)
        self._errors += 1
        if count == 1:
            self._own_faults += 1
            return self._give_up(piece, error)
        self._put_back(piece, (count + 1) // 2)
        return None

    def _late(self, piece: _Piece[T], outcome: Overdue) -> Step[T] | None:
        count = len(piece.items)
        if outcome.limit_s is None:
            self.refused = True
            return self._give_up(
                piece, TimeoutError(f"cannot begin with {count} items: earlier calls still hang")
            )
        self._count(calls=1, timeouts=1)
        # One that hangs will hang in every piece that it is in: the others are soonest rid of it alone.
        size = 1 if outcome.stuck else (count + 1) // 2
        if not (outcome.stuck and count == 1) and self._try_again(piece, size):
            return None
        still = ", and it may still be running" if outcome.stuck else ""
        return self._give_up(piece, TimeoutError(f"cannot wait longer than {outcome.limit_s:g} s{still}"))

    def _try_again(self, piece: _Piece[T], size: int) -> bool:
        """Put the items back in smaller pieces, or the one item as long as it may be retried."""
        if len(piece.items) > 1:
            self._put_back(piece, size)
        elif piece.retries < self._batching.max_retries:
            self._waiting.appendleft(piece._replace(retries=piece.retries + 1))
        else:
            return False
        return True

    def _put_back(self, piece: _Piece[T], size: int) -> None:
        self._waiting.extendleft(reversed(piece.split(size)))

    def _give_up(self, piece: _Piece[T], error: Exception) -> Deliver:
        self._count(items=len(piece.items), failed_items=len(piece.items))
        return Deliver([Failed(item, error) for item in piece.items])

    def _count(self, **more: int) -> None:
        self._tally = self._tally.plus(Tally(**more))

    def _against_size(self) -> int:
        """Count the calls whose failure a smaller batch might have spared.

        Memory's and time's are; other errors only where every item passed in the end, so that it was the
        number of them that failed, and not one of them.
        """
        own = 0 if self._own_faults else self._errors
        return self._tally.out_of_memory + self._tally.timeouts + own

    def _settle(self) -> None:
        failed = self._tally.calls > self._tally.useful_calls
        recovered = failed and not self._tally.failed_items
        self.recovered = self._tally.out_of_memory if recovered else 0
        self._count(recoveries=int(recovered))
        self._lane.settle(self._tally._replace(busy_s=self.busy_s), self._against_size())
