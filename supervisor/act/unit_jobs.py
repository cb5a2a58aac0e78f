"""Jobs of systemd: which of them are ours, and how those ended."""

import asyncio
from collections import Counter
from collections.abc import Awaitable

from supervisor.systemd.bus import JobBegun, JobEnded, SystemdError


class UnitJobs:
    """Tells our jobs from other people's. Used in the thread of its event loop only."""

    def __init__(self) -> None:
        """Begin without any."""
        self._ordering: Counter[str] = Counter()  # by unit: orders that systemd has not confirmed yet
        self._waiting: dict[str, asyncio.Future[str]] = {}
        self._early: dict[str, str] = {}  # ended before their order was confirmed

    async def order(self, unit: str, order: Awaitable[str]) -> str:
        """Enqueue a job and return it; its beginning is signalled before the answer comes."""
        self._ordering[unit] += 1
        try:
            return await order
        finally:
            self._ordering[unit] -= 1

    async def carry_out(self, unit: str, order: Awaitable[str]) -> str:
        """Enqueue a job and return how it ended. Raises SystemdError."""
        job = await self.order(unit, order)
        if job in self._early:
            return self._early.pop(job)
        self._waiting[job] = asyncio.get_running_loop().create_future()
        try:
            return await self._waiting[job]
        finally:
            del self._waiting[job]

    def is_ours(self, begun: JobBegun) -> bool:
        """Tell whether it was our order that began a job."""
        return self._ordering[begun.unit] > 0

    def ended(self, job: JobEnded) -> None:
        """Take the end of any job."""
        waiting = self._waiting.get(job.job)
        if waiting is not None and not waiting.done():
            waiting.set_result(job.result)
        elif waiting is None and self._ordering.total() > 0:
            self._early[job.job] = job.result
        elif waiting is None:
            self._early.clear()

    def lost(self, why: str) -> None:
        """Give up all of them: nobody will tell how they end."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(SystemdError(why))
