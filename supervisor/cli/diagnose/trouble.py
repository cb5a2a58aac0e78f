"""Which workers are in trouble, by what the daemon says of them. Pure."""

from typing import Final

from supervisor.model.phase import Cause, Phase
from supervisor.model.status import WorkerStatus

FAILURES: Final = frozenset(
    {
        Cause.HOST_OOM_KILL,
        Cause.HOST_OOM,
        Cause.VRAM_OOM,
        Cause.EXIT,
        Cause.CRASH,
        Cause.START_TIMEOUT,
        Cause.UNHEALTHY,
        Cause.HUNG,
        Cause.HEARTBEAT,
        Cause.GPU_FAULT,
    }
)


def in_trouble(worker: WorkerStatus) -> bool:
    """Tell whether it is held, or was restarted last because it failed."""
    if worker.phase == Phase.HELD:
        return True
    return worker.last_restart is not None and worker.last_restart.cause in FAILURES
