"""Where one model of a runner stands, shared by all the threads that run it."""

import threading
from collections.abc import Callable

from supervisor.guard.events import note, warn
from supervisor.guard.sizes import Sizes, Standing, fresh, passed, ran_out, rested, settled, squeezed
from supervisor.guard.tally import Tally


class Lane:
    """A model's sizes, its standing and its counts; every change is one step under a lock, and told once."""

    def __init__(self, name: str, sizes: Sizes, clock: Callable[[], float]) -> None:
        """Begin at the best size."""
        self.name = name
        self.sizes = sizes
        self._words = f" of {name}" if name else ""
        self._clock = clock
        self._lock = threading.RLock()  # a signal handler may reset it
        self._standing = fresh(sizes, clock())
        self._tally = Tally()

    @property
    def standing(self) -> Standing:
        """Where it stands now."""
        return self._standing

    @property
    def tally(self) -> Tally:
        """What was counted until now."""
        return self._tally

    def figures(self) -> dict[str, object]:
        """Return the sizes and the counts."""
        at, tally = self._standing, self._tally
        return {
            "batch_size": at.size,
            "best_batch_size": self.sizes.best,
            "safe_batch_size": at.safe,
            "single_item_mode": at.single,
            **tally.figures(),
        }

    def ready(self) -> int:
        """Grow where a quiet period has passed, and return how many items the next batch may have."""
        if self.sizes.quiet_s is not None:
            self._move(lambda at, now_s: rested(self.sizes, at, now_s), "quiet for long enough")
        return self._standing.size

    def squeeze(self, why: str) -> None:
        """Halve."""
        self._move(lambda at, now_s: squeezed(self.sizes, at, now_s), why)

    def run_out(self, count: int) -> None:
        """Go below `count`, which memory ran out for."""
        self._move(lambda at, now_s: ran_out(self.sizes, at, count, now_s), f"out of memory with {count}")

    def passed(self, count: int) -> None:
        """Remember that `count` passed; without the lock's cost where it is known."""
        safe = self._standing.safe
        if safe is None or safe < count:
            self._move(lambda at, _now_s: passed(at, count), "")

    def settle(self, tally: Tally, failed_calls: int) -> None:
        """Count a batch whose items all are; `failed_calls` of its calls tell against its size."""
        with self._lock:
            self._tally = self._tally.plus(tally)
        why = "too many batches failed"
        self._move(lambda at, now_s: settled(at, tally.calls, failed_calls, now_s), why)

    def reset(self) -> None:
        """Go back to the best size, with nothing remembered but the counts."""
        self._move(lambda _at, now_s: fresh(self.sizes, now_s), "reset")

    def _move(self, step: Callable[[Standing, float], Standing], why: str) -> None:
        with self._lock:
            before, self._standing = self._standing, step(self._standing, self._clock())
            after = self._standing
        if (before.size, before.single) != (after.size, after.single):
            tell = note if after.size > before.size else warn
            mode = ", one item at a time" if after.single else ""
            tell("batch size%s: %d, before %d%s: %s", self._words, after.size, before.size, mode, why)
