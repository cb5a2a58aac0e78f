"""Where news waits for the next turn, and what wakes the loop."""

import asyncio

from supervisor.model.news import News, Reported
from supervisor.sense.reports import merge


class Mailbox:
    """A queue that everybody may tell and only the loop reads. All of it in the loop's thread."""

    def __init__(self) -> None:
        """Begin empty."""
        self._news: list[News] = []
        self._reports: dict[str, Reported] = {}  # by run: several come to one
        self._nudged = False
        self._woken = asyncio.Event()

    def tell(self, news: News) -> None:
        """Add a piece of news; the next turn comes at once.

        A report that changes nothing waits for the turn that comes anyway: a thousand workers that report
        five times a second ask for no turn.
        """
        if isinstance(news, Reported):
            earlier = self._reports.get(news.run)
            self._reports[news.run] = news if earlier is None else merge(earlier, news)
            if not news.quiet:
                self.nudge()
            return
        self._news.append(news)
        self._woken.set()

    def nudge(self) -> None:
        """Ask for a turn at once, without news: something new can be seen."""
        self._nudged = True
        self._woken.set()

    def take(self) -> tuple[tuple[News, ...], bool]:
        """Return all news but reports, oldest first, and whether a turn was asked for; both are then gone."""
        news, nudged = tuple(self._news), self._nudged
        self._news.clear()
        self._nudged = False
        self._woken.clear()
        return news, nudged

    def take_reports(self) -> tuple[Reported, ...]:
        """Return what workers have reported, one for each run; it is then gone."""
        reports = tuple(self._reports.values())
        self._reports.clear()
        return reports

    async def wait(self, timeout_s: float) -> None:
        """Wait until there is something, or for `timeout_s`."""
        try:
            async with asyncio.timeout(max(timeout_s, 0.0)):
                await self._woken.wait()
        except TimeoutError:
            return
