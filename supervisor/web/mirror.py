"""Asks the daemon how everything is, once a second while anybody watches, and not at all otherwise."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from supervisor.web.link import AwayError, Link, RefusedError
from supervisor.web.view import View, view_of

POLL_S: Final = 1.0
LOOKED_S: Final = 10.0  # so long after a request it is still asked, for the next one most likely follows
ANSWER_S: Final = 5.0
PATIENCE_S: Final = 0.5  # how long a reader waits for a newer view where there is an old one
AWAY_S: Final = (1.0, 2.0, 3.0)  # between attempts while the daemon is away

NOT_YET: Final = "the daemon was not asked yet"


class Update(Struct, frozen=True):
    """One answer, or none: what is known now, and what was told since the last one."""

    view: View
    events: Sequence[Any] = ()


class Mirror:
    """The one caller of Status, however many look at it."""

    def __init__(self, link: Link, now_s: Callable[[], float]) -> None:
        """Ask over `link`."""
        self._link = link
        self._now_s = now_s
        self.view: View | None = None
        self.away: str = NOT_YET
        self.watchers = 0
        self.told: Callable[[Update], None] = lambda _: None
        self._looked_s = float("-inf")
        self._asked_s = float("-inf")
        self._failed = 0
        self._wanted = asyncio.Event()
        self._under_way: asyncio.Task[None] | None = None
        self._epoch: str | None = None
        self._after = 0
        self._has_alerts = True

    def watch(self) -> None:
        """Ask once a second from now on, until as many `unwatch`."""
        self.watchers += 1
        self._wanted.set()

    def unwatch(self) -> None:
        """Let one watcher go."""
        self.watchers -= 1

    async def look(self) -> View:
        """Return what is known, a second old unless the daemon is away; AwayError if nothing ever was."""
        now_s = self._now_s()
        self._looked_s = now_s
        self._wanted.set()
        under_way = self._under_way is not None and not self._under_way.done()
        fresh = self.view is not None and now_s - self.view.read_s < POLL_S
        if not fresh and (under_way or now_s - self._asked_s >= POLL_S):
            patience_s = ANSWER_S if self.view is None else PATIENCE_S
            await self._within(patience_s, self._refresh())
        if self.view is None:
            raise AwayError(self.away)
        return self.view

    async def run(self) -> None:
        """Poll for ever."""
        while True:
            if self.watchers <= 0 and self._now_s() - self._looked_s >= LOOKED_S:
                self._wanted.clear()
                await self._wanted.wait()
            if self._now_s() - self._asked_s >= POLL_S * 0.9:
                await asyncio.shield(self._refresh())
            pause_s = AWAY_S[min(self._failed, len(AWAY_S)) - 1] if self._failed else POLL_S
            await asyncio.sleep(max(0.05, self._asked_s + pause_s - self._now_s()))

    async def _within(self, patience_s: float, task: Awaitable[None]) -> None:
        try:
            await asyncio.wait_for(asyncio.shield(task), patience_s)
        except TimeoutError:
            return  # it goes on beside, and the next reader has its answer

    def _refresh(self) -> asyncio.Task[None]:
        """Ask now, or join the one who does."""
        if self._under_way is None or self._under_way.done():
            self._asked_s = self._now_s()
            self._under_way = asyncio.create_task(self._ask())
        return self._under_way

    async def _ask(self) -> None:
        try:
            status = (await self._link.call("Status", ANSWER_S))["status"]
            read_s, read_at = self._now_s(), utc_now()
            events = await self._news()
            alerts = await self._alerts()
            view = view_of(status, alerts, read_s, read_at)
        except (AwayError, RefusedError) as error:
            self._fail(str(error))
            return
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            self._link.close()
            self._fail(f"the daemon's answer is not understood: {type(error).__name__} {error}")
            return
        self.away, self._failed, self.view = "", 0, view
        self.told(Update(view, events))

    def _fail(self, why: str) -> None:
        self.away = why
        self._failed += 1
        self._has_alerts = True  # the next daemon may be another version
        if self.view is not None:
            self.view = replace(self.view, away=why)
            self.told(Update(self.view))

    async def _news(self) -> Sequence[Any]:
        """Return what was told since the last time; at first nothing, but where the counting stands."""
        first = self._epoch is None
        asked = {"limit": 1} if first else {"epoch": self._epoch, "after": self._after}
        news = (await self._link.call("News", ANSWER_S, **asked))["news"]
        self._epoch, self._after = str(news["epoch"]), int(news["last"])
        events = list(news["events"])
        if not all(isinstance(event, dict) for event in events):
            raise TypeError("its events are no objects")
        return () if first else events

    async def _alerts(self) -> Sequence[Any]:
        if not self._has_alerts:
            return ()
        try:
            return list((await self._link.call("Alerts", ANSWER_S))["alerts"])
        except RefusedError as refused:
            if not refused.name.endswith("MethodNotFound"):
                raise
            self._has_alerts = False  # this daemon knows of none
            return ()


def utc_now() -> str:
    """Return the time as it is shown: ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
