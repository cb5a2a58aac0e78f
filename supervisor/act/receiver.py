"""One receiver of alerts: a bounded queue in which the newest state of each wins, until it is taken."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from supervisor.model.action import Notice
from supervisor.model.alert import AlertStatus

WAITING_MOST: Final = 1000
FIRST_S: Final = 1.0
LONGEST_S: Final = 300.0
# As much may be added to a pause: receivers that failed together are not asked together.
SPREAD: Final = 0.5

Key = tuple[str, str | None, str | None]


class RefusedError(Exception):
    """The receiver did not take alerts; `final` says that it never will take these."""

    def __init__(self, why: str, *, final: bool = False) -> None:
        """Say why, without what may be secret."""
        super().__init__(why)
        self.final = final


class Delivery:
    """How one receiver is told, and how many alerts it takes at a time."""

    def __init__(
        self, name: str, at_once: int, send: Callable[[Sequence[AlertStatus]], Awaitable[None]]
    ) -> None:
        """Be called `name`, which is shown; `send` raises RefusedError."""
        self.name = name
        self.at_once = at_once
        self.send = send


class Receiver:
    """Tells one receiver, in a task of its own: nobody waits for it. Used in the thread of its loop only."""

    def __init__(self, delivery: Delivery, notice: Callable[[Notice], None]) -> None:
        """Begin with nothing to tell; `notice` hears once that it fails, and once that it works again."""
        self._delivery = delivery
        self._notice = notice
        self._waiting: dict[Key, AlertStatus] = {}
        self._dropped = 0
        self._failures = 0
        self._woken = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._work())
        self._task.add_done_callback(_ended)

    def tell(self, alert: AlertStatus) -> None:
        """Tell of an alert, in place of what waits of the same; the oldest makes room for it."""
        key = (alert.name, alert.worker, alert.gpu)
        self._waiting.pop(key, None)
        self._waiting[key] = alert
        if len(self._waiting) > WAITING_MOST:
            self._waiting.pop(next(iter(self._waiting)))
            self._dropped += 1
        self._woken.set()

    def close(self) -> None:
        """Tell nothing any more."""
        self._task.cancel()

    async def _work(self) -> None:
        while True:
            await self._woken.wait()
            while self._waiting:
                await self._send_some()
            self._woken.clear()

    async def _send_some(self) -> None:
        keys = list(self._waiting)[: self._delivery.at_once]
        some = [self._waiting[key] for key in keys]
        try:
            await self._delivery.send(some)
        except RefusedError as refused:
            self._failed(refused)
            if not refused.final:
                self._put_last(keys)  # one that is never taken keeps no other waiting
                await asyncio.sleep(self._pause_s())
                return
        else:
            self._works()
        for key, alert in zip(keys, some, strict=True):
            if self._waiting.get(key) is alert:  # nothing newer came meanwhile
                del self._waiting[key]

    def _put_last(self, keys: Sequence[Key]) -> None:
        for key in keys:
            if key in self._waiting:
                self._waiting[key] = self._waiting.pop(key)

    def _pause_s(self) -> float:
        pause_s = min(FIRST_S * 2.0 ** min(self._failures - 1, 20), LONGEST_S)
        return pause_s * (1 + SPREAD * random.random())  # noqa: S311 - nothing is kept secret by it

    def _failed(self, refused: RefusedError) -> None:
        self._failures += 1
        if self._failures == 1:
            then = "these are dropped" if refused.final else "it is tried again until it does"
            text = f"{self._delivery.name} takes no alerts: {refused}; {then}"
            self._notice(Notice("warning", "alert receiver fails", text))

    def _works(self) -> None:
        if self._failures:
            count = f"{self._failures} failure{'s' if self._failures > 1 else ''}"
            lost = f"; {self._dropped} alerts were dropped, as too many waited" if self._dropped else ""
            text = f"{self._delivery.name} takes alerts after {count}{lost}"
            self._notice(Notice("info", "alert receiver works again", text))
        self._failures = self._dropped = 0


def _ended(task: asyncio.Task[None]) -> None:
    """Raise what is a fault of our own where the loop tells of it, and so ends the daemon."""
    with contextlib.suppress(asyncio.CancelledError):
        error = task.exception()
        if error is not None:
            task.get_loop().call_exception_handler(
                {"message": "a receiver of alerts failed", "exception": error, "task": task}
            )
