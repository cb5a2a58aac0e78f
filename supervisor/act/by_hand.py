"""What people do to workers' units behind the supervisor's back, put into the wishes that it means."""

from typing import Final

from supervisor.model.news import Asked, Wish
from supervisor.systemd.bus import JobBegun, Systemd, SystemdError

BY: Final = "systemctl"
ENDING: Final = "stopping"  # systemd itself is: the machine goes down, and wants nobody to stay down after
RESTARTS: Final = frozenset({"restart", "try-restart", "reload-or-restart"})


async def wish_behind(systemd: Systemd, begun: JobBegun, worker: str) -> Asked | None:
    """Return the wish that a job of somebody else comes to; None where it comes to none.

    A job that is over before it can be asked about was a stop: nothing else is so quick on what runs.
    """
    try:
        kind = await systemd.job_type(begun.job)
    except SystemdError:
        kind = "stop"
    if kind != "stop" and kind not in RESTARTS:
        return None
    try:
        if await systemd.manager_state() == ENDING:
            return None
    except SystemdError:
        return None
    done = "stopped" if kind == "stop" else "restarted"
    wish: Wish = "stop" if kind == "stop" else "restart"
    reason = f"{begun.unit} was {done} by hand (systemctl)"
    return Asked(wish, (worker,), now=True, reason=reason, by=BY)


def started(unit: str, worker: str) -> Asked:
    """Return the wish behind a unit that somebody else has started."""
    return Asked("start", (worker,), reason=f"{unit} was started by hand (systemctl)", by=BY)
