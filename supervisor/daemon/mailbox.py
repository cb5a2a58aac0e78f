"""Where news waits for the next turn, and what wakes the loop."""

import asyncio

from supervisor.model.news import News, Reported
from supervisor.sense.reports import merge


class Mailbox:
    """A queue that everybody may tell and only the loop reads. All of it in the loop's thread."""

    def __init__(self) -> None:
        """Begin empty."""
        self._news: list[News] = []
        self._quiet: dict[str, Reported] = {}  # by run: reports that wait for the next turn
        self._nudged = False
        self._woken = asyncio.Event()

    def tell(self, news: News) -> None:
        """Add a piece of news; the next turn comes at once.

        A quiet report waits for the turn that comes anyway, a newer one in its place: a thousand workers that
        report five times a second ask for no turn.
        """
        if isinstance(news, Reported):
            earlier = self._quiet.pop(news.run, None)
            news = news if earlier is None else merge(earlier, news)
            if news.quiet:
                self._quiet[news.run] = news
                return
        self._news.append(news)
        self._woken.set()

    def nudge(self) -> None:
        """Ask for a turn at once, without news: something new can be seen."""
        self._nudged = True
        self._woken.set()

    def take(self) -> tuple[tuple[News, ...], bool]:
        """Return the news, oldest first, and whether a turn was asked for; both are then gone."""
        news, nudged = tuple(self._news), self._nudged
        self._news.clear()
        self._nudged = False
        self._woken.clear()
        return news, nudged

    def take_quiet(self) -> tuple[Reported, ...]:
        """Return the reports that waited for a turn, one for each run; they are then gone."""
        quiet = tuple(self._quiet.values())
        self._quiet.clear()
        return quiet

    async def wait(self, timeout_s: float) -> None:
        """Wait until there is something, or for `timeout_s`."""
        try:
            async with asyncio.timeout(max(timeout_s, 0.0)):
                await self._woken.wait()
        except TimeoutError:
            return
