"""The life of a worker as one table. Whatever is not in it is a bug, not a case."""

from enum import StrEnum
from typing import Final

from supervisor.model.phase import Phase


class Event(StrEnum):
    """What moves a worker from one phase to the next."""

    WANTED = "wanted"  # an operator wants it, or releases it
    UNWANTED = "unwanted"  # an operator does not want it
    LAUNCH = "launch"
    READY = "ready"
    DRAIN = "drain"
    SIGNAL = "signal"  # the stop signal is sent
    KILL = "kill"  # SIGKILL is sent to the tree
    EXITED = "exited"  # the main process is gone
    RETRY = "retry"  # all is given back, and it shall run again
    REST = "rest"  # all is given back, and it shall not run
    HOLD = "hold"  # all is given back, and it may not run until an operator says so


MOVES: Final = {
    (Phase.STOPPED, Event.WANTED): Phase.WAITING,
    (Phase.HELD, Event.WANTED): Phase.WAITING,
    (Phase.WAITING, Event.UNWANTED): Phase.STOPPED,
    (Phase.HELD, Event.UNWANTED): Phase.STOPPED,
    (Phase.WAITING, Event.LAUNCH): Phase.STARTING,
    (Phase.STARTING, Event.READY): Phase.READY,
    (Phase.READY, Event.DRAIN): Phase.DRAINING,
    (Phase.STARTING, Event.SIGNAL): Phase.STOPPING,
    (Phase.READY, Event.SIGNAL): Phase.STOPPING,
    (Phase.DRAINING, Event.SIGNAL): Phase.STOPPING,
    (Phase.STARTING, Event.KILL): Phase.KILLING,
    (Phase.READY, Event.KILL): Phase.KILLING,
    (Phase.DRAINING, Event.KILL): Phase.KILLING,
    (Phase.STOPPING, Event.KILL): Phase.KILLING,
    (Phase.STARTING, Event.EXITED): Phase.RECLAIMING,
    (Phase.READY, Event.EXITED): Phase.RECLAIMING,
    (Phase.DRAINING, Event.EXITED): Phase.RECLAIMING,
    (Phase.STOPPING, Event.EXITED): Phase.RECLAIMING,
    (Phase.KILLING, Event.EXITED): Phase.RECLAIMING,
    (Phase.RECLAIMING, Event.RETRY): Phase.WAITING,
    (Phase.RECLAIMING, Event.REST): Phase.STOPPED,
    (Phase.RECLAIMING, Event.HOLD): Phase.HELD,
}

# News that comes late or twice, and changes nothing.
STALE: Final = frozenset(
    {
        (Phase.READY, Event.READY),
        (Phase.DRAINING, Event.READY),
        (Phase.STOPPING, Event.READY),
        (Phase.KILLING, Event.READY),
        (Phase.RECLAIMING, Event.READY),
        (Phase.RECLAIMING, Event.EXITED),
        (Phase.STOPPED, Event.UNWANTED),
        (Phase.WAITING, Event.WANTED),
    }
)


class ImpossibleMoveError(Exception):
    """An event came in a phase that has no row for it: a fault of the supervisor itself."""


def move(phase: Phase, event: Event) -> Phase:
    """Return the phase that follows. Raises `ImpossibleMoveError` for a pair that is in neither table."""
    following = MOVES.get((phase, event))
    if following is not None:
        return following
    if (phase, event) in STALE:
        return phase
    raise ImpossibleMoveError(f"{event} while {phase}")


LIVING: Final = frozenset(
    {Phase.STARTING, Phase.READY, Phase.DRAINING, Phase.STOPPING, Phase.KILLING, Phase.RECLAIMING}
)
GOING: Final = frozenset({Phase.DRAINING, Phase.STOPPING, Phase.KILLING, Phase.RECLAIMING})
# Loading or giving back GPU memory: one at a time for each GPU.
MOVING_MEMORY: Final = frozenset({Phase.STARTING, Phase.STOPPING, Phase.KILLING, Phase.RECLAIMING})
