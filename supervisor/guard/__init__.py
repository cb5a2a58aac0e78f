"""The library inside a worker: it feels memory run short, degrades by steps, and loses no work."""

from supervisor.guard.advice import Advice, Steps
from supervisor.guard.memory import Loaded, MemoryManager
from supervisor.guard.oom import Failure, classify
from supervisor.guard.pressure import Pressure

__all__ = ["Advice", "Failure", "Loaded", "MemoryManager", "Pressure", "Steps", "classify"]
