"""How often somebody may do something: token buckets, for each client and for all of them."""

import math
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from msgspec import Struct

from supervisor.web.problem import ProblemError

CLIENTS: Final = 1024  # remembered; a forgotten one begins with a full bucket


class Rate(Struct, frozen=True):
    """So many at once, and one more every `refill_s`."""

    burst: int
    refill_s: float


class Bucket:
    """What is left of a rate."""

    def __init__(self, rate: Rate, now_s: float) -> None:
        """Begin full."""
        self._rate = rate
        self._left = float(rate.burst)
        self._seen_s = now_s

    def wait_s(self, now_s: float) -> float:
        """Return how long it takes until one may be taken; 0 for at once."""
        grown = self._left + (now_s - self._seen_s) / self._rate.refill_s
        self._left, self._seen_s = min(float(self._rate.burst), grown), now_s
        return max(0.0, (1.0 - self._left) * self._rate.refill_s)

    def take(self) -> None:
        """Take one, after `wait_s` was 0."""
        self._left -= 1.0


class RateLimit:
    """One rate for each client and one for all together."""

    def __init__(self, each: Rate, together: Rate, now_s: Callable[[], float]) -> None:
        """Begin with full buckets."""
        self._each = each
        self._now_s = now_s
        self._all = Bucket(together, now_s())
        self._clients: OrderedDict[str, Bucket] = OrderedDict()

    @property
    def remembered(self) -> int:
        """Return how many clients are remembered."""
        return len(self._clients)

    def take(self, client: str) -> None:
        """Count one of this client, or raise a ProblemError that says when to come again."""
        now_s = self._now_s()
        bucket = self._clients.pop(client, None) or Bucket(self._each, now_s)
        self._clients[client] = bucket
        while len(self._clients) > CLIENTS:
            self._clients.popitem(last=False)
        wait_s = max(bucket.wait_s(now_s), self._all.wait_s(now_s))
        if wait_s > 0:
            after = {"Retry-After": str(math.ceil(wait_s))}
            raise ProblemError(HTTPStatus.TOO_MANY_REQUESTS, f"too many: again in {wait_s:.1f} s", after)
        bucket.take()
        self._all.take()
