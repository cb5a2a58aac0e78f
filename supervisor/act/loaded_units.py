"""The unit files of all workers, as systemd has read them."""

import asyncio
import contextlib
from collections.abc import Collection

from supervisor.act.systemd_link import SystemdLink
from supervisor.act.unit_files import UnitFiles
from supervisor.model.plan import Plan
from supervisor.systemd.units import Unit, UnitPlaces, slice_unit, unit_name, worker_unit


class LoadedUnits:
    """Writes unit files, and has systemd read them again where any of them differs: once for many."""

    def __init__(self, files: UnitFiles, places: UnitPlaces, link: SystemdLink) -> None:
        """Write through `files`."""
        self._files = files
        self._places = places
        self._link = link
        self._reloading = asyncio.Lock()
        self._unread = False  # a file has changed since systemd last read them

    async def load(self, unit: Unit) -> None:
        """Have a unit read as it is written here. Raises OSError and SystemdError."""
        self._unread |= self._files.put(unit)
        await self._reload()

    async def load_all(self, plan: Plan, memory_total_bytes: int, busy: Collection[str]) -> frozenset[str]:
        """Have the slice and the workers of a plan there, and those gone that are no longer in it.

        Units of `busy` workers are left alone, and those that there are already: what a worker runs with
        is written when it is launched. Returns the workers whose units were removed. Raises OSError and
        SystemdError.
        """
        self._unread |= self._files.put(slice_unit(plan.host, memory_total_bytes))
        there = self._files.workers()
        for worker in plan.workers.values():
            if worker.name not in there:
                with contextlib.suppress(ValueError):  # said when it is launched
                    self._unread |= self._files.put(worker_unit(worker, worker.settings, self._places))
        unwanted = there - plan.workers.keys() - set(busy)
        for name in unwanted:
            self._files.remove(unit_name(name), name)
            self._unread = True
        await self._reload()
        return unwanted

    async def _reload(self) -> None:
        async with self._reloading:
            if self._unread:
                self._unread = False
                try:
                    await self._link.systemd.reload()
                except BaseException:
                    self._unread = True
                    raise
