"""How large a batch may be: which sizes there are, where a model stands, and what moves it."""

from typing import Final, NamedTuple

RECENT: Final = 5
"""So many batches are looked back at; RECENT_FAILURES of them that failed mean one item at a time."""
RECENT_FAILURES: Final = 2
FAILURE_RATE: Final = 0.4
"""So large a share of all calls may fail; more means one item at a time."""
CALLS_FOR_A_RATE: Final = 10  # of fewer calls, one batch that had to be split is already most


class Sizes(NamedTuple):
    """The sizes that a model's batches may have."""

    best: int = 12
    fallback: tuple[int, ...] = (6, 3, 1)
    smallest: int = 1
    """Precaution goes no lower; a batch that really ran out of memory is tried again smaller still."""
    quiet_s: float | None = None
    """After so long without trouble it grows by one size; None: only when asked."""

    def check(self) -> None:
        """Raise ValueError for sizes that cannot be."""
        if self.best < 1:
            raise ValueError(f"cannot make batches of {self.best}: the size is at least 1")
        if not 1 <= self.smallest <= self.best:
            raise ValueError(f"cannot shrink to {self.smallest}: the smallest size is from 1 to {self.best}")
        if any(size < 1 for size in self.fallback):
            raise ValueError(f"cannot fall back to {min(self.fallback)}: a size is at least 1")
        if self.quiet_s is not None and not self.quiet_s > 0:
            raise ValueError(f"cannot grow after {self.quiet_s} s: a quiet period is longer than 0")


class Standing(NamedTuple):
    """Where a model stands; `since_s` is when it last shrank, grew or failed."""

    size: int
    since_s: float
    single: bool = False
    safe: int | None = None
    """The largest that passed, and has not run out of memory since."""
    recent: tuple[bool, ...] = ()
    """Of the last batches, which failed; the newest is the last."""
    calls: int = 0
    failed_calls: int = 0


def fresh(sizes: Sizes, now_s: float) -> Standing:
    """Stand at the best size, with nothing remembered."""
    return Standing(sizes.best, now_s)


def squeezed(sizes: Sizes, at: Standing, now_s: float) -> Standing:
    """Halve, since memory is nearly full; never below the smallest."""
    size = max(at.size // 2, min(at.size, sizes.smallest))
    return at if size == at.size else at._replace(size=size, since_s=now_s)


def ran_out(sizes: Sizes, at: Standing, count: int, now_s: float) -> Standing:
    """Go to the next size below the `count` items that memory ran out for; one item is the end of it."""
    safe = None if at.safe is None or at.safe >= count else at.safe
    return at._replace(size=min(at.size, below(sizes, count)), safe=safe, since_s=now_s)


def below(sizes: Sizes, count: int) -> int:
    """Return the largest fallback below `count`, half of it where there is none, and 1 at least."""
    return max((size for size in sizes.fallback if size < count), default=max(1, count // 2))


def passed(at: Standing, count: int) -> Standing:
    """Remember that `count` items at once have passed."""
    return at if at.safe is not None and at.safe >= count else at._replace(safe=count)


def settled(at: Standing, calls: int, failed_calls: int, now_s: float) -> Standing:
    """Weigh a batch whose items are all accounted for, after `calls` of which `failed_calls` failed."""
    failed = failed_calls > 0
    at = at._replace(
        recent=(*at.recent, failed)[-RECENT:],
        calls=at.calls + calls,
        failed_calls=at.failed_calls + failed_calls,
        since_s=now_s if failed else at.since_s,
    )
    often = at.calls >= CALLS_FOR_A_RATE and at.failed_calls > FAILURE_RATE * at.calls
    if sum(at.recent) >= RECENT_FAILURES or often:
        return at._replace(size=1, single=True)
    return at


def rested(sizes: Sizes, at: Standing, now_s: float) -> Standing:
    """Grow by one size where a quiet period has passed, and forget the failures before it."""
    if sizes.quiet_s is None or now_s - at.since_s < sizes.quiet_s or at.size >= sizes.best:
        return at
    larger = min(size for size in (*sizes.fallback, sizes.best) if size > at.size)
    return Standing(larger, now_s, safe=at.safe)
