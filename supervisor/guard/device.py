"""Reads and clears a device's memory: through torch where the worker has loaded it, else NVML or the host.

The CPU's is what this process can have of the host: its cgroups and its cap count too.
"""

import gc
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from supervisor.guard.loaded import Modules, loaded
from supervisor.guard.room import Room, Roots, Unreadable, host_room, rooms

__all__ = [
    "DeviceMemory",
    "Reader",
    "Surroundings",
    "Unreadable",
    "clear_cache",
    "cuda_available",
    "device_reader",
    "nvml_device",
    "read_host",
]

_NVML_NOT_SUPPORTED: Final = 3  # NVML_ERROR_NOT_SUPPORTED: GB10, Thor and Orin have no memory but the host's


class DeviceMemory(NamedTuple):
    """A device's memory, in bytes; free is what any process could still have of it."""

    total_bytes: int
    free_bytes: int
    allocated_bytes: int = 0
    """What this process's tensors hold; 0 where no framework tells."""
    reserved_bytes: int = 0
    """What this process's allocator holds, its cache included; 0 where no framework tells."""

    @property
    def usage(self) -> float:
        """The used share, by whomever, from 0 to 1."""
        return (self.total_bytes - self.free_bytes) / self.total_bytes


class Surroundings(NamedTuple):
    """Where a reader looks; what differs in a test."""

    modules: Modules = sys.modules
    environment: Mapping[str, str] = os.environ
    proc: str = "/proc"
    cgroup: str = "/sys/fs/cgroup"


Reader = Callable[[], DeviceMemory | Unreadable]


def device_reader(device: str, around: Surroundings | None = None) -> Reader:
    """Return what reads `device`: `cuda`, `cuda:1`, `mps`, or `cpu` for the fullest of host, cgroups and cap.

    Torch is asked only where the worker has loaded it and begun to use its GPU: to ask earlier would make a
    context of some 400 MB, or break a later fork. Until then NVML tells, where it is. An integrated GPU is
    read as the host, by MemAvailable, since what CUDA calls free leaves out the page cache. Raises
    ValueError for a device of another kind.
    """
    where = around or Surroundings()
    kind, index = _kind_and_index(device)
    if kind == "cpu":
        return lambda: _read_cpu(Roots(where.proc, where.cgroup, where.environment))
    if kind == "mps":
        return lambda: _read_mps(where.modules)
    nvml = _Nvml(index, where)

    def read() -> DeviceMemory | Unreadable:
        torch = _torch_at_work(where.modules)
        return nvml.read() if torch is None else _read_torch(torch, index, where.proc)

    return read


def read_host(proc: str = "/proc") -> DeviceMemory | Unreadable:
    """Read the machine's memory: MemTotal, and MemAvailable as what is free."""
    return _as_memory(host_room(proc))


def clear_cache(device: str, modules: Modules = sys.modules) -> None:
    """Wait for the device, collect garbage, and give the allocator's cache back; harmless without torch.

    Call it outside the `except` block: until then the traceback keeps the frames, and they the tensors.
    Raises whatever the device has to say, such as that its context is lost.
    """
    kind, index = _kind_and_index(device)
    torch = _torch_at_work(modules) if kind == "cuda" else loaded("torch", modules) if kind == "mps" else None
    if torch is not None and kind == "cuda":
        torch.cuda.synchronize(index)
    elif torch is not None:
        torch.mps.synchronize()
    gc.collect()
    if torch is not None:
        getattr(torch, kind).empty_cache()


def cuda_available(modules: Modules = sys.modules) -> bool:
    """Tell whether torch, where it is loaded, sees a CUDA device."""
    torch = loaded("torch", modules)
    return torch is not None and bool(torch.cuda.is_available())


def cuda_known(modules: Modules = sys.modules) -> bool | None:
    """Tell what `cuda_available` would where the driver need not be asked for it; else None."""
    torch = loaded("torch", modules)
    if torch is None or not torch.backends.cuda.is_built():
        return False
    return True if torch.cuda.is_initialized() else None


def _kind_and_index(device: str) -> tuple[str, int]:
    kind, _, index = device.partition(":")
    if kind not in {"cuda", "mps", "cpu"} or not (index or "0").isdecimal():
        raise ValueError(f"cannot watch {device!r}: write cuda, cuda:1, mps or cpu")
    return kind, int(index or 0)


def _read_cpu(roots: Roots) -> DeviceMemory | Unreadable:
    """Read what is fullest: a limit that is near counts, though another may leave less in bytes."""
    host, *others = rooms(roots)
    known = [each for each in (host, *others) if isinstance(each, Room)]
    return _as_memory(max(known, key=lambda room: room.usage) if known else host)


def _as_memory(room: Room | Unreadable) -> DeviceMemory | Unreadable:
    return room if isinstance(room, Unreadable) else DeviceMemory(room.limit_bytes, room.available_bytes)


def _torch_at_work(modules: Modules) -> Any | None:  # noqa: ANN401 - torch has no types here
    torch = loaded("torch", modules)
    return torch if torch is not None and torch.cuda.is_initialized() else None


def _read_torch(torch: Any, index: int, proc: str) -> DeviceMemory | Unreadable:  # noqa: ANN401
    try:
        allocated, reserved = torch.cuda.memory_allocated(index), torch.cuda.memory_reserved(index)
        if getattr(torch.cuda.get_device_properties(index), "is_integrated", 0):
            host = read_host(proc)
            if isinstance(host, Unreadable):
                return host
            return host._replace(allocated_bytes=allocated, reserved_bytes=reserved)
        free, total = torch.cuda.mem_get_info(index)
    except (RuntimeError, AssertionError) as error:  # the latter for a device that there is not
        return Unreadable(f"cannot read cuda:{index}: {str(error).partition(chr(10))[0]}")
    if not total:
        return Unreadable(f"cannot read cuda:{index}: it has a total of 0 bytes")
    return DeviceMemory(total, free, allocated, reserved)


def _read_mps(modules: Modules) -> DeviceMemory | Unreadable:
    torch = loaded("torch", modules)
    if torch is None:
        return Unreadable("cannot read mps: torch is not loaded")
    total, held = torch.mps.recommended_max_memory(), torch.mps.driver_allocated_memory()
    if not total:
        return Unreadable("cannot read mps: it has a total of 0 bytes")
    return DeviceMemory(total, max(0, total - held), torch.mps.current_allocated_memory(), held)


class _Nvml:
    """A GPU as NVML sees it; begun at the first reading, and kept."""

    def __init__(self, index: int, where: Surroundings) -> None:
        self._index = index
        self._where = where
        self._pynvml: Any = None
        self._handle: Any = None

    def read(self) -> DeviceMemory | Unreadable:
        try:
            if self._handle is None:
                self._pynvml, self._handle = nvml_device(f"cuda:{self._index}", self._where)
            memory = self._pynvml.nvmlDeviceGetMemoryInfo(self._handle)
        except Exception as error:  # noqa: BLE001 - NVMLError is a type of a module that may not be there
            if getattr(error, "value", None) == _NVML_NOT_SUPPORTED:
                return read_host(self._where.proc)
            return Unreadable(f"cannot read cuda:{self._index} by NVML: {error}")
        if not memory.total:  # as some drivers answer for unified memory
            return read_host(self._where.proc)
        return DeviceMemory(memory.total, memory.total - memory.used)


def nvml_device(device: str, around: Surroundings | None = None) -> tuple[Any, Any]:
    """Begin with NVML; return the module, and its handle of the GPU that CUDA calls `device`.

    Raises LookupError where CUDA_VISIBLE_DEVICES hides it, ImportError and NVML's own errors.
    """
    where = around or Surroundings()
    name = _visible_name(_kind_and_index(device)[1], where.environment.get("CUDA_VISIBLE_DEVICES"))
    pynvml: Any = where.modules.get("pynvml") or importlib.import_module("pynvml")
    pynvml.nvmlInit()
    if name.isdecimal():
        return pynvml, pynvml.nvmlDeviceGetHandleByIndex(int(name))
    return pynvml, pynvml.nvmlDeviceGetHandleByUUID(name)


def _visible_name(index: int, visible: str | None) -> str:
    """Return the index or the UUID of the GPU that CUDA calls by `index`."""
    if visible is None:
        return str(index)
    names = [name.strip() for name in visible.split(",")]
    if index >= len(names) or not names[index]:
        raise LookupError(f"CUDA_VISIBLE_DEVICES={visible} has no device {index}")
    return names[index]
