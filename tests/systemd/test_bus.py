"""The manager over a real bus, played by a stand-in."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from dbus_fast.signature import Variant

from supervisor.systemd.bus import (
    SERVICE,
    UNIT,
    Heard,
    JobBegun,
    JobEnded,
    Systemd,
    SystemdError,
    UnitChanged,
    UnitState,
    unit_path,
)
from support.system_bus import StandIn, SystemBus

CHAT = "gpu-worker-chat.service"
RUN = "0123456789abcdef" * 2


class Scene:
    """A stand-in, a connection to it, and what that heard."""

    def __init__(self, systemd: StandIn, connection: Systemd, heard: "asyncio.Queue[Heard]") -> None:
        self.systemd = systemd
        self.connection = connection
        self.heard = heard


def play(bus: SystemBus, scene: Callable[[Scene], Awaitable[None]]) -> None:
    async def played() -> None:
        systemd, heard = StandIn(), asyncio.Queue[Heard]()
        async with asyncio.timeout(30.0):
            await systemd.connect(bus.address)
            connection = await Systemd.connect(heard.put_nowait)
            try:
                await scene(Scene(systemd, connection, heard))
            finally:
                connection.close()
                await connection.lost()
                await systemd.close()

    asyncio.run(played())


def test_a_service_is_read_as_systemd_tells_it(bus: SystemBus) -> None:
    async def scene(at: Scene) -> None:
        at.systemd.has_unit(CHAT, "failed", RUN, sub="failed", result="signal", pid=0, code=2, status=9)
        state = await at.connection.state(CHAT)
        assert state == UnitState("failed", "failed", "signal", 0, 2, 9, RUN)
        assert state.over
        at.systemd.has_unit(CHAT, "active", RUN, pid=4242)
        state = await at.connection.state(CHAT)
        assert state == UnitState("active", "running", "success", 4242, 0, 0, RUN)
        assert not state.over

    play(bus, scene)


def test_a_change_is_told_once_both_halves_of_it_were_heard(bus: SystemBus) -> None:
    async def scene(at: Scene) -> None:
        at.systemd.has_unit(CHAT, "active", RUN, pid=4242)
        await at.connection.state(CHAT)
        died = {
            "ExecMainCode": Variant("i", 2),
            "ExecMainStatus": Variant("i", 15),
            "MainPID": Variant("u", 0),
        }
        await at.systemd.changed(CHAT, SERVICE, died)
        await at.systemd.changed(CHAT, UNIT, {"ActiveState": Variant("s", "inactive")})
        assert await at.heard.get() == UnitChanged(
            CHAT, UnitState("inactive", "running", "success", 0, 2, 15, RUN)
        )
        assert at.heard.empty()

    play(bus, scene)


def test_units_of_others_are_not_listened_to_but_their_jobs_are(bus: SystemBus) -> None:
    async def scene(at: Scene) -> None:
        await at.systemd.changed("ssh.service", UNIT, {"ActiveState": Variant("s", "inactive")})
        await at.systemd.signal("JobNew", "uos", 3, "/job/3", "ssh.service")
        await at.systemd.signal("JobRemoved", "uoss", 3, "/job/3", "ssh.service", "done")
        assert await at.heard.get() == JobBegun("ssh.service", "/job/3")
        assert await at.heard.get() == JobEnded("ssh.service", "/job/3", "done")

    play(bus, scene)


def test_orders_are_what_systemd_is_told(bus: SystemBus) -> None:
    async def scene(at: Scene) -> None:
        at.systemd.answers = {"StartUnit": ("o", ["/job/1"]), "StopUnit": ("o", ["/job/2"])}
        at.systemd.asked.clear()
        assert await at.connection.start(CHAT) == "/job/1"
        assert await at.connection.stop(CHAT) == "/job/2"
        await at.connection.kill(CHAT, "main", 15)
        await at.connection.hold(CHAT)
        await at.connection.let_go(CHAT)
        await at.connection.reload()
        assert at.systemd.asked == [
            ("StartUnit", [CHAT, "replace"]),
            ("StopUnit", [CHAT, "replace"]),
            ("KillUnit", [CHAT, "main", 15]),
            ("RefUnit", [CHAT]),
            ("UnrefUnit", [CHAT]),
            ("Reload", []),
        ]

    play(bus, scene)


def test_a_unit_without_a_file_is_held_from_its_start_on(bus: SystemBus) -> None:
    async def scene(at: Scene) -> None:
        at.systemd.answers = {"StartTransientUnit": ("o", ["/job/1"])}
        at.systemd.asked.clear()
        job = await at.connection.start_transient("drain.service", [("Description", "s", "idle?")])
        [(member, body)] = at.systemd.asked
        assert (job, member) == ("/job/1", "StartTransientUnit")
        assert body == [
            "drain.service",
            "fail",
            [("AddRef", Variant("b", True)), ("Description", Variant("s", "idle?"))],  # noqa: FBT003
            [],
        ]

    play(bus, scene)


def test_what_is_loaded_and_what_is_being_done_can_be_asked(bus: SystemBus) -> None:
    async def scene(at: Scene) -> None:
        path, none = unit_path(CHAT), "/"
        row: list[Any] = [CHAT, "", "loaded", "active", "running", "", path, 0, "", none]
        at.systemd.answers = {"ListUnitsByPatterns": ("a(ssssssouso)", [[row]])}
        assert await at.connection.units("gpu-worker-*") == {CHAT: "active"}
        at.systemd.properties[path, UNIT, "Job"] = Variant("(uo)", [0, none])
        assert await at.connection.job_of(CHAT) is None
        at.systemd.properties[path, UNIT, "Job"] = Variant("(uo)", [9, "/job/9"])
        at.systemd.has_job("/job/9", "restart")
        assert await at.connection.job_of(CHAT) == "restart"

    play(bus, scene)


def test_a_refusal_has_systemds_words_and_the_name_of_its_error(bus: SystemBus) -> None:
    async def scene(at: Scene) -> None:
        at.systemd.refuses["StartUnit"] = ("org.freedesktop.systemd1.NoSuchUnit", f"Unit {CHAT} not found.")
        with pytest.raises(SystemdError) as refusal:
            await at.connection.start(CHAT)
        assert (str(refusal.value), refusal.value.name) == (f"Unit {CHAT} not found.", "NoSuchUnit")

    play(bus, scene)


def test_a_thousand_questions_at_once_are_all_answered(bus: SystemBus) -> None:
    """A bus refuses the 129th question of a connection that waits."""

    async def scene(at: Scene) -> None:
        states = await asyncio.gather(*(at.connection.manager_state() for _ in range(1000)))
        assert set(states) == {"running"}

    play(bus, scene)


def test_a_bus_that_ends_is_noticed_and_every_question_after_it_refused(bus: SystemBus) -> None:
    async def scene(at: Scene) -> None:
        bus.end()
        assert await at.connection.lost() != ""
        with pytest.raises(SystemdError, match="the connection to the system bus is gone"):
            await at.connection.start(CHAT)

    play(bus, scene)
