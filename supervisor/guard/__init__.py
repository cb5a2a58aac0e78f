"""The library inside a worker: it feels memory run short, degrades by steps, and loses no work.

The names below are loaded when they are first used, since a worker pays for what it imports.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor.guard.advice import Advice, Steps
    from supervisor.guard.batch import BatchRunner, Model
    from supervisor.guard.brake import MemoryEmergency, MemoryMonitor, check_memory
    from supervisor.guard.calls import Failed
    from supervisor.guard.heat import Heat
    from supervisor.guard.leak_probe import LeakProbe
    from supervisor.guard.memory import Loaded, MemoryManager, Snapshot
    from supervisor.guard.oom import Failure, classify
    from supervisor.guard.poison import EXIT_POISONED, leave
    from supervisor.guard.pressure import Pressure
    from supervisor.guard.report import Supervisor, supervised
    from supervisor.guard.tensors import TensorBuffer
    from supervisor.guard.vram import set_vram_fraction
    from supervisor.guard.wire import Drain

_MODULES = {
    "EXIT_POISONED": "poison",
    "Advice": "advice",
    "BatchRunner": "batch",
    "Drain": "wire",
    "Failed": "calls",
    "Failure": "oom",
    "Heat": "heat",
    "LeakProbe": "leak_probe",
    "Loaded": "memory",
    "MemoryEmergency": "brake",
    "MemoryManager": "memory",
    "MemoryMonitor": "brake",
    "Model": "batch",
    "Pressure": "pressure",
    "Snapshot": "memory",
    "Steps": "advice",
    "Supervisor": "report",
    "TensorBuffer": "tensors",
    "check_memory": "brake",
    "classify": "oom",
    "leave": "poison",
    "set_vram_fraction": "vram",
    "supervised": "report",
}

__all__ = [
    "EXIT_POISONED",
    "Advice",
    "BatchRunner",
    "Drain",
    "Failed",
    "Failure",
    "Heat",
    "LeakProbe",
    "Loaded",
    "MemoryEmergency",
    "MemoryManager",
    "MemoryMonitor",
    "Model",
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


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415 - as all of it

    found: object = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*globals(), *__all__]
