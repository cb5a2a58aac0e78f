"""The library inside a worker: it feels memory run short, degrades by steps, and loses no work.

The names below are loaded when they are first used, since a worker pays for what it imports.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor.guard.advice import Advice, Steps
    from supervisor.guard.batch import BatchRunner, Model
    from supervisor.guard.calls import Failed
    from supervisor.guard.heat import Heat
    from supervisor.guard.memory import Loaded, MemoryManager
    from supervisor.guard.oom import Failure, classify
    from supervisor.guard.pressure import Pressure

_MODULES = {
    "Advice": "advice",
    "BatchRunner": "batch",
    "Failed": "calls",
    "Failure": "oom",
    "Heat": "heat",
    "Loaded": "memory",
    "MemoryManager": "memory",
    "Model": "batch",
    "Pressure": "pressure",
    "Steps": "advice",
    "classify": "oom",
}

__all__ = [
    "Advice",
    "BatchRunner",
    "Failed",
    "Failure",
    "Heat",
    "Loaded",
    "MemoryManager",
    "Model",
    "Pressure",
    "Steps",
    "classify",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found
