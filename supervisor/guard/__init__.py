"""The library inside a worker: it feels memory run short, degrades by steps, and loses no work."""

from supervisor.guard.advice import Advice, Steps
from supervisor.guard.brake import MemoryEmergency, MemoryMonitor, check_memory
from supervisor.guard.leak_probe import LeakProbe
from supervisor.guard.memory import Loaded, MemoryManager
from supervisor.guard.oom import Failure, classify
from supervisor.guard.pressure import Pressure
from supervisor.guard.tensors import TensorBuffer
from supervisor.guard.vram import set_vram_fraction

__all__ = [
    "Advice",
    "Failure",
    "LeakProbe",
    "Loaded",
    "MemoryEmergency",
    "MemoryManager",
    "MemoryMonitor",
    "Pressure",
    "Steps",
    "TensorBuffer",
    "check_memory",
    "classify",
    "set_vram_fraction",
]
