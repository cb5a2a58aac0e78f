"""The page of metrics, made once for each answer of the daemon, however many scrape it."""

import asyncio
from collections.abc import Callable

import msgspec

from supervisor.model.alert import AlertStatus
from supervisor.model.status import Status
from supervisor.web.link import AwayError
from supervisor.web.metrics import render
from supervisor.web.mirror import Mirror
from supervisor.web.view import View


class Scrape:
    """Keeps the last page. It is made in a thread: of a thousand workers it takes too long for the loop."""

    def __init__(self, mirror: Mirror, now_s: Callable[[], float]) -> None:
        """Tell what the mirror sees."""
        self._mirror = mirror
        self._now_s = now_s
        self._made_of: float | None = None
        self._page = b""
        self._turn = asyncio.Lock()

    async def page(self, lately_s: float) -> bytes:
        """Return the metrics; of a daemon that has not answered for `lately_s` only that it is away."""
        try:
            view: View | None = await self._mirror.look()
        except AwayError:
            view = None
        if view is not None and self._now_s() - view.read_s > lately_s:
            view = None
        made_of = None if view is None else view.read_s
        async with self._turn:
            if not self._page or made_of != self._made_of:
                self._page = await asyncio.to_thread(_rendered, view)
                self._made_of = made_of
            return self._page


def _rendered(view: View | None) -> bytes:
    if view is None:
        return render(None)
    alerts = msgspec.convert(view.alerts, list[AlertStatus])
    return render(msgspec.convert(view.status, Status), alerts)
