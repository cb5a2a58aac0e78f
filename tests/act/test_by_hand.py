"""What a job of somebody else comes to, asked of a stand-in for systemd on a real bus."""

import asyncio

import pytest
from dbus_fast.signature import Variant

from supervisor.act.by_hand import started, wish_behind
from supervisor.model.news import Asked
from supervisor.systemd.bus import MANAGER, ROOT, JobBegun, Systemd, SystemdError
from support.system_bus import StandIn, SystemBus

UNIT = "gpu-worker-chat.service"
JOB = f"{ROOT}/job/7"
OURS, OTHER = "aa" * 16, "bb" * 16
STOPPED = Asked("stop", ("chat",), now=True, reason=f"{UNIT} was stopped by hand (systemctl)", by="systemctl")
RESTARTED = Asked(
    "restart", ("chat",), now=True, reason=f"{UNIT} was restarted by hand (systemctl)", by="systemctl"
)


def wish(bus: SystemBus, systemd: StandIn) -> Asked | None:
    """Ask what the job on the unit comes to, which it has met while it ran as OURS."""

    async def asked() -> Asked | None:
        await systemd.connect(bus.address)
        connection = await Systemd.connect(lambda _: None)
        try:
            return await wish_behind(connection, JobBegun(UNIT, JOB), "chat", OURS)
        finally:
            connection.close()
            await connection.lost()
            await systemd.close()

    return asyncio.run(asked())


@pytest.mark.parametrize(
    ("kind", "comes_to"),
    [
        ("stop", STOPPED),
        ("restart", RESTARTED),
        ("try-restart", RESTARTED),
        ("reload-or-restart", RESTARTED),
        ("reload", None),
        ("verify-active", None),
    ],
)
def test_a_job_is_the_wish_that_its_kind_says(bus: SystemBus, kind: str, comes_to: Asked | None) -> None:
    systemd = StandIn()
    systemd.has_job(JOB, kind)
    assert wish(bus, systemd) == comes_to


@pytest.mark.parametrize(
    ("active", "invocation", "comes_to"),
    [
        ("active", OURS, None),  # what runs is started: nothing happens
        ("active", OTHER, RESTARTED),  # it was stopped and is up again
        ("activating", OTHER, RESTARTED),
        ("deactivating", OURS, RESTARTED),  # the second half of a restart
        ("inactive", OURS, RESTARTED),
    ],
)
def test_a_start_is_half_a_restart_unless_what_runs_is_still_the_same(
    bus: SystemBus, active: str, invocation: str, comes_to: Asked | None
) -> None:
    systemd = StandIn()
    systemd.has_job(JOB, "start")
    systemd.has_unit(UNIT, active, invocation)
    assert wish(bus, systemd) == comes_to


@pytest.mark.parametrize(
    ("active", "invocation", "comes_to"),
    [
        ("active", OURS, None),
        ("reloading", OURS, None),
        ("active", OTHER, RESTARTED),
        ("inactive", OURS, STOPPED),
        ("failed", OURS, STOPPED),
        ("deactivating", OURS, STOPPED),
    ],
)
def test_a_job_that_is_over_before_it_can_be_asked_is_told_by_what_it_left(
    bus: SystemBus, active: str, invocation: str, comes_to: Asked | None
) -> None:
    systemd = StandIn()
    systemd.has_unit(UNIT, active, invocation)
    assert wish(bus, systemd) == comes_to


@pytest.mark.parametrize("kind", ["stop", "restart"])
def test_a_machine_that_goes_down_wants_nobody_to_stay_down(bus: SystemBus, kind: str) -> None:
    systemd = StandIn()
    systemd.has_job(JOB, kind)
    systemd.properties[ROOT, MANAGER, "SystemState"] = Variant("s", "stopping")
    assert wish(bus, systemd) is None


def test_a_unit_that_cannot_be_asked_for_is_an_error_and_no_wish(bus: SystemBus) -> None:
    with pytest.raises(SystemdError, match="Unknown object"):
        wish(bus, StandIn())


def test_a_unit_that_was_started_by_hand_is_wanted() -> None:
    assert started(UNIT, "chat") == Asked(
        "start", ("chat",), reason=f"{UNIT} was started by hand (systemctl)", by="systemctl"
    )
