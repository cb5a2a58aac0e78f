"""Drain commands as services of systemd: in the workers' slice, with no right of the daemon's."""

import asyncio
import contextlib
from collections import defaultdict
from typing import Final

from supervisor.act.drain_command import told
from supervisor.act.exits import Ending
from supervisor.act.systemd_link import SystemdLink
from supervisor.act.unit_end import CLD_EXITED, REFUSALS
from supervisor.act.unit_jobs import UnitJobs
from supervisor.model.action import Launch
from supervisor.systemd.bus import SystemdError, UnitState
from supervisor.systemd.drain_unit import PREFIX, Property, drain_properties, drain_unit
from supervisor.systemd.units import UnitPlaces

DRAIN_UNITS: Final = f"{PREFIX}*.service"


class UnitCommands:
    """Runs the commands of workers that are units; see `Commands`.

    Used in the thread of an event loop only.
    """

    def __init__(self, link: SystemdLink, jobs: UnitJobs, places: UnitPlaces) -> None:
        """Begin without any."""
        self._link = link
        self._jobs = jobs
        self._places = places
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by unit

    def children(self) -> frozenset[int]:
        """Return none: they are children of PID 1."""
        return frozenset()

    async def run(self, order: Launch, command: tuple[str, ...], timeout_s: float) -> tuple[bool, str]:
        """Return whether the command exited with 0 in time, and what it did instead."""
        unit = drain_unit(order.worker)
        try:
            properties = drain_properties(order.plan, order.settings, command, timeout_s, self._places)
            async with asyncio.timeout(timeout_s), self._turns[unit]:
                state = await self._end_of(unit, properties)
        except TimeoutError:
            return False, f"it did not end within {timeout_s:g} s"
        except (SystemdError, ValueError) as error:
            return False, f"cannot run {command[0]}: {error}"
        return _answer(command[0], state)

    async def end_strays(self) -> None:
        """End the commands of an earlier daemon, whose questions are asked anew. Raises SystemdError."""
        for unit in await self._link.systemd.units(DRAIN_UNITS):
            await self._jobs.order(unit, self._link.systemd.stop(unit))

    async def _end_of(self, unit: str, properties: tuple[Property, ...]) -> UnitState:
        """Run a command to its end; one that is given up is killed before this is over."""
        try:
            await self._start(unit, properties)
            state = await self._link.systemd.state(unit)
        except SystemdError:
            await self._let_go(unit)
            raise
        except asyncio.CancelledError:
            await self._kill(unit)
            await self._let_go(unit)
            raise
        await self._let_go(unit)
        return state

    async def _start(self, unit: str, properties: tuple[Property, ...]) -> None:
        try:
            await self._jobs.carry_out(unit, self._link.systemd.start_transient(unit, properties))
        except SystemdError as error:
            if error.name != "UnitExists":
                raise
            await self._kill(unit)  # one of an earlier daemon
            await self._jobs.carry_out(unit, self._link.systemd.start_transient(unit, properties))

    async def _kill(self, unit: str) -> None:
        """Have the unit stopped, by SIGKILL as its properties say, be it that it has not begun yet."""
        with contextlib.suppress(SystemdError):
            await self._jobs.carry_out(unit, self._link.systemd.stop(unit))

    async def _let_go(self, unit: str) -> None:
        with contextlib.suppress(SystemdError):
            systemd = self._link.systemd
            systemd.forget(unit)
            await systemd.let_go(unit)


def _answer(program: str, state: UnitState) -> tuple[bool, str]:
    if not state.code and state.result == "success":
        return False, "it was ended before it ran"
    if not state.code:
        return False, f"cannot run {program}: systemd says {state.result}"
    if state.code != CLD_EXITED:
        return False, told(Ending(signal=state.status))
    if state.status in REFUSALS:
        return False, f"cannot run {program}: {REFUSALS[state.status]} (status {state.status})"
    return state.status == 0, told(Ending(state.status))
