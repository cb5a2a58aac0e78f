"""The connection to systemd over a real bus, which is ended and started again."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from supervisor.act.systemd_link import SystemdLink
from supervisor.systemd.bus import Heard, JobBegun, Systemd, SystemdError
from support.system_bus import StandIn, SystemBus

GONE = "cannot ask systemd: the connection to the system bus is gone"


class Scene:
    """A link, and what it told."""

    def __init__(self, bus: SystemBus) -> None:
        self.bus = bus
        self.systemd = StandIn()
        self.heard = asyncio.Queue[Heard]()
        self.lost = asyncio.Queue[str]()
        self.back = asyncio.Queue[bool]()
        self.link = SystemdLink(self.heard.put_nowait, self.lost.put_nowait, self._came_back)

    async def end(self) -> None:
        last = self.link.systemd if self.link.up else None
        self.link.close()
        if last is not None:
            await last.lost()
        await self.systemd.close()

    async def _came_back(self) -> None:
        self.back.put_nowait(self.link.up)


def play(bus: SystemBus, scene: Callable[[Scene], Awaitable[None]]) -> None:
    async def played() -> None:
        made = Scene(bus)
        try:
            async with asyncio.timeout(30.0):
                await scene(made)
        finally:
            await made.end()

    asyncio.run(played())


def test_what_systemd_signals_is_handed_on(bus: SystemBus) -> None:
    async def scene(at: Scene) -> None:
        await at.systemd.connect(bus.address)
        await at.link.open()
        await at.link.wait()
        assert at.link.up
        assert await at.link.systemd.manager_state() == "running"
        await at.systemd.signal("JobNew", "uos", 7, "/org/freedesktop/systemd1/job/7", "a.service")
        assert await at.heard.get() == JobBegun("a.service", "/org/freedesktop/systemd1/job/7")

    play(bus, scene)


def test_the_first_connection_fails_where_there_is_no_bus(bus: SystemBus) -> None:
    async def scene(at: Scene) -> None:
        bus.end()
        with pytest.raises(SystemdError, match="cannot reach the system bus: "):
            await at.link.open()
        assert not at.link.up
        with pytest.raises(SystemdError, match=GONE):
            _ = at.link.systemd
        assert (at.lost.qsize(), at.back.qsize()) == (0, 0)

    play(bus, scene)


def test_a_bus_that_is_started_again_is_found_again_and_heard_again(bus: SystemBus) -> None:
    async def scene(at: Scene) -> None:
        await at.systemd.connect(bus.address)
        await at.link.open()
        for job in ("1", "2"):  # and a second time as the first
            first = at.link.systemd
            bus.end()
            assert await at.lost.get() != ""
            assert not at.link.up
            with pytest.raises(SystemdError, match=GONE):
                _ = at.link.systemd
            waiting = asyncio.create_task(at.link.wait())
            await asyncio.sleep(0)
            assert not waiting.done()
            assert at.back.empty()
            bus.start()
            await at.systemd.close()
            await at.systemd.connect(bus.address)
            assert await at.back.get() is True
            await waiting
            assert at.link.systemd is not first
            await at.systemd.signal("JobNew", "uos", int(job), f"/job/{job}", "a.service")
            assert await at.heard.get() == JobBegun("a.service", f"/job/{job}")
        assert (at.lost.qsize(), at.back.qsize()) == (0, 0)

    play(bus, scene)


def test_a_bus_without_systemd_is_tried_again_until_it_is_there(bus: SystemBus) -> None:
    async def scene(at: Scene) -> None:
        with pytest.raises(SystemdError):
            await at.link.open()
        await at.systemd.connect(bus.address)
        await at.link.open()
        bus.end()
        await at.lost.get()
        bus.start()  # systemd itself comes onto it only later
        await at.systemd.close()
        at.systemd.refuses["Subscribe"] = ("org.freedesktop.DBus.Error.NoReply", "it is busy")
        at.systemd.asked.clear()
        await at.systemd.connect(bus.address)
        await at.systemd.until_asked(2)
        assert not at.link.up
        at.systemd.refuses.clear()
        assert await at.back.get() is True

    play(bus, scene)


def test_a_link_that_is_closed_connects_no_more_and_tells_nothing(bus: SystemBus) -> None:
    async def scene(at: Scene) -> None:
        await at.systemd.connect(bus.address)
        await at.link.open()
        at.systemd.asked.clear()
        last = at.link.systemd
        at.link.close()
        assert not at.link.up
        assert await last.lost() == "it was closed"
        await at.systemd.close()
        bus.end()
        bus.start()
        await at.systemd.connect(bus.address)
        other = await Systemd.connect(lambda _: None)  # meanwhile whoever wanted could have come, too
        other.close()
        await other.lost()
        assert (at.lost.qsize(), at.back.qsize(), at.systemd.asked) == (0, 0, [("Subscribe", [])])

    play(bus, scene)
