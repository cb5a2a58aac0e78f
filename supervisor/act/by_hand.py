"""What people do to workers' units behind the supervisor's back, put into the wishes that it means."""

from typing import Final, Literal

from supervisor.model.news import Asked
from supervisor.systemd.bus import JobBegun, Systemd, SystemdError

BY: Final = "systemctl"
ENDING: Final = "stopping"  # systemd itself is: the machine goes down, and wants nobody to stay down after
RESTARTS: Final = frozenset({"restart", "try-restart", "reload-or-restart"})
UP: Final = frozenset({"active", "activating", "reloading"})
GONE: Final = ""


async def wish_behind(systemd: Systemd, begun: JobBegun, worker: str, invocation: str) -> Asked | None:
    """Return the wish that a job of somebody else comes to; None where it comes to none.

    `invocation` is the one that the job has met. Raises SystemdError.
    """
    kind = await _kind(systemd, begun, invocation)
    if kind is None or await systemd.manager_state() == ENDING:
        return None
    done = "stopped" if kind == "stop" else "restarted"
    reason = f"{begun.unit} was {done} by hand (systemctl)"
    return Asked(kind, (worker,), now=True, reason=reason, by=BY)


async def _kind(systemd: Systemd, begun: JobBegun, invocation: str) -> Literal["stop", "restart"] | None:
    """Find out what a job does, or from the unit what it did where it is over before it can be asked.

    A restart is a start once what ran has stopped; and a start of what runs is nothing at all.
    """
    try:
        kind = await systemd.job_type(begun.job)
    except SystemdError:
        kind = GONE
    if kind == "stop":
        return "stop"
    if kind in RESTARTS:
        return "restart"
    if kind not in {"start", GONE}:
        return None
    state = await systemd.state(begun.unit)
    runs = state.active in UP
    if runs and state.invocation == invocation:
        return None
    return "restart" if runs or kind == "start" else "stop"


def started(unit: str, worker: str) -> Asked:
    """Return the wish behind a unit that somebody else has started."""
    return Asked("start", (worker,), reason=f"{unit} was started by hand (systemctl)", by=BY)
