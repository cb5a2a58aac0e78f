"""A torch and an NVML of plain values, as the guard reads them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from supervisor.guard.device import DeviceMemory
from supervisor.guard.memory import MemoryManager

GIB = 1 << 30


def _always(answer: object) -> Callable[[int], object]:
    def of(_index: int) -> object:
        return answer

    return of


class FakeTorch:
    """Answers as torch does for one GPU of 80 GiB; what it was asked to do is in `done`."""

    def __init__(
        self, used_gib: float = 0, *, integrated: int = 0, initialized: bool = True, built: bool = True
    ) -> None:
        self.used_gib = used_gib
        self.done: list[str] = []
        self.fault: str | None = None
        self.cuda = SimpleNamespace(
            is_available=lambda: True,
            is_initialized=lambda: initialized,
            memory_allocated=_always(3 * GIB),
            memory_reserved=_always(4 * GIB),
            get_device_properties=_always(SimpleNamespace(is_integrated=integrated)),
            mem_get_info=self._mem_get_info,
            synchronize=self._synchronize,
            empty_cache=lambda: self.done.append("empty_cache"),
        )
        self.backends = SimpleNamespace(cuda=SimpleNamespace(is_built=lambda: built))
        self.mps = SimpleNamespace(
            recommended_max_memory=lambda: 16 * GIB,
            driver_allocated_memory=lambda: 4 * GIB,
            current_allocated_memory=lambda: 3 * GIB,
            synchronize=lambda: self.done.append("synchronize"),
            empty_cache=lambda: self.done.append("empty_cache"),
        )

    def _synchronize(self, index: int) -> None:
        self.done.append(f"synchronize {index}")

    def _mem_get_info(self, _index: int) -> tuple[int, int]:
        if self.fault is not None:
            raise RuntimeError(self.fault)
        return int((80 - self.used_gib) * GIB), 80 * GIB


class FakeNvmlError(Exception):
    """An error of NVML, with its number as `value`."""

    def __init__(self, value: int) -> None:
        super().__init__(f"NVML error {value}")
        self.value = value


class FakeNvml:
    """Answers as pynvml does for GPUs of 80 GiB, `used` of them in use; a GPU goes by its name."""

    def __init__(self, used: dict[str, int], error: int | None = None, total: int = 80 * GIB) -> None:
        self._used = used
        self._error = error
        self._total = total
        self.begun = 0

    def nvmlInit(self) -> None:  # noqa: N802 - its name
        self.begun += 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        return list(self._used)[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        return uuid

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:  # noqa: ANN401, N802
        if self._error is not None:
            raise FakeNvmlError(self._error)
        return SimpleNamespace(total=self._total, used=self._used[handle])


def host_memory(usage: float = 0.1) -> MemoryManager:
    """Watch a machine of 100 GiB of which `usage` is in use."""
    reading = DeviceMemory(100 * GIB, round(100 * GIB * (1 - usage)))
    return MemoryManager("cpu", reader_for=lambda _device: lambda: reading)
