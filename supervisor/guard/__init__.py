"""The library inside a worker: it feels memory run short, degrades by steps, and loses no work."""

from supervisor.guard.advice import Advice, Steps
from supervisor.guard.brake import MemoryEmergency, MemoryMonitor, check_memory
from supervisor.guard.leak_probe import LeakProbe
from supervisor.guard.memory import Loaded, MemoryManager, Snapshot
from supervisor.guard.oom import Failure, classify
from supervisor.guard.poison import EXIT_POISONED, leave
from supervisor.guard.pressure import Pressure
from supervisor.guard.supervised import Supervisor, supervised
from supervisor.guard.tensors import TensorBuffer
from supervisor.guard.vram import set_vram_fraction
from supervisor.guard.wire import Drain

__all__ = [
    "EXIT_POISONED",
    "Advice",
    "Drain",
    "Failure",
    "LeakProbe",
    "Loaded",
    "MemoryEmergency",
    "MemoryManager",
    "MemoryMonitor",
    "Pressure",
    "Snapshot",
    "Steps",
    "Supervisor",
    "TensorBuffer",
    "check_memory",
    "classify",
    "leave",
    "set_vram_fraction",
    "supervised",
]
