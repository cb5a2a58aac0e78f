"""The library inside a worker: it feels memory run short, degrades by steps, and loses no work."""

from supervisor.guard.advice import Advice, Steps
from supervisor.guard.memory import Loaded, MemoryManager, Snapshot
from supervisor.guard.oom import Failure, classify
from supervisor.guard.poison import EXIT_POISONED, leave
from supervisor.guard.pressure import Pressure
from supervisor.guard.supervised import Supervisor, supervised
from supervisor.guard.wire import Drain

__all__ = [
    "EXIT_POISONED",
    "Advice",
    "Drain",
    "Failure",
    "Loaded",
    "MemoryManager",
    "Pressure",
    "Snapshot",
    "Steps",
    "Supervisor",
    "classify",
    "leave",
    "supervised",
]
