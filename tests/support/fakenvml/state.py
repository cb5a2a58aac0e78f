"""The state of the stand-in driver, mapped: what is assigned here a running helper reads next."""

import mmap
from collections.abc import Sequence
from ctypes import Structure, c_char, c_int32, c_uint32, c_uint64, sizeof
from enum import IntEnum, auto
from pathlib import Path
from typing import Final

MAGIC: Final = 0x4E564D4C
MAX_GPUS: Final = 8
MAX_PROCESSES: Final = 300
GIB: Final = 1 << 30
FOR_EVER_MS: Final = 0xFFFFFFFF
CRASH: Final = -1
NOT_AVAILABLE: Final = 2**64 - 1


class Call(IntEnum):
    """What can be made to fail; fakenvml.c has the same list."""

    INIT = 0
    COUNT = auto()
    HANDLE = auto()
    NAME = auto()
    UUID = auto()
    MEMORY = auto()
    MEMORY_V2 = auto()
    UTILIZATION = auto()
    TEMPERATURE = auto()
    TEMPERATURE_V = auto()
    POWER = auto()
    POWER_LIMIT = auto()
    COMPUTE = auto()
    GRAPHICS = auto()
    MPS = auto()
    PCI = auto()
    THROTTLE = auto()


class Kind(IntEnum):
    """The process list that an entry is in."""

    COMPUTE = 0
    GRAPHICS = 1
    MPS = 2


CALLS: Final = 20


class _Fault(Structure):
    answer: int
    hang_ms: int
    _fields_ = (("answer", c_int32), ("hang_ms", c_uint32))


class _Process(Structure):
    pid: int
    kind: int
    used: int
    _fields_ = (("pid", c_uint32), ("kind", c_uint32), ("used", c_uint64))


class Gpu(Structure):
    """One GPU; its numbers are assigned, its faults and processes set through the methods."""

    name: bytes
    uuid: bytes
    bus_id: bytes
    total: int
    reserved: int
    used: int
    throttle: int
    utilization: int
    temperature: int
    power_mw: int
    power_limit_mw: int
    processes: int
    faults: Sequence[_Fault]
    process: Sequence[_Process]
    _fields_ = (
        ("name", c_char * 96),
        ("uuid", c_char * 80),
        ("bus_id", c_char * 32),
        ("total", c_uint64),
        ("reserved", c_uint64),
        ("used", c_uint64),
        ("throttle", c_uint64),
        ("utilization", c_uint32),
        ("temperature", c_uint32),
        ("power_mw", c_uint32),
        ("power_limit_mw", c_uint32),
        ("processes", c_uint32),
        ("padding", c_uint32),
        ("faults", _Fault * CALLS),
        ("process", _Process * MAX_PROCESSES),
    )

    def fail(self, call: Call, answer: int) -> None:
        """Have the call answer an error code of NVML, or CRASH; 0 heals it."""
        self.faults[call].answer = answer

    def hang(self, call: Call, hang_ms: int = FOR_EVER_MS) -> None:
        """Have the call sleep; 0 heals it."""
        self.faults[call].hang_ms = hang_ms

    def run(self, *processes: tuple[int, int] | tuple[int, int, Kind]) -> None:
        """Let these and no other processes be on the GPU: pid, bytes, and the list they are in."""
        for slot, (pid, used, *kind) in zip(self.process, processes, strict=False):
            slot.pid, slot.used, slot.kind = pid, used, kind[0] if kind else Kind.COMPUTE
        self.processes = len(processes)


class _State(Structure):
    magic: int
    size: int
    gpus: int
    faults: Sequence[_Fault]
    calls: Sequence[int]
    gpu: Sequence[Gpu]
    _fields_ = (
        ("magic", c_uint32),
        ("size", c_uint32),
        ("gpus", c_uint32),
        ("padding", c_uint32),
        ("faults", _Fault * CALLS),
        ("calls", c_uint64 * CALLS),
        ("gpu", Gpu * MAX_GPUS),
    )


class FakeDriver:
    """The whole stand-in. `environment` is what a process needs to load it."""

    def __init__(self, library: Path, path: Path, gpus: int = 2) -> None:
        """Write a state file with `gpus` healthy GPUs of 80 GiB, 16 of them used."""
        path.write_bytes(bytes(sizeof(_State)))
        with path.open("r+b") as file:
            self._state = _State.from_buffer(mmap.mmap(file.fileno(), sizeof(_State)))
        self.environment = {"LD_LIBRARY_PATH": str(library.parent), "FAKENVML_STATE": str(path)}
        self._state.size = sizeof(_State)
        self._state.gpus = gpus
        for index in range(MAX_GPUS):
            gpu = self.gpu(index)
            gpu.name = b"Fake GPU"
            gpu.uuid = b"GPU-%d" % index
            gpu.bus_id = b"00000000:%02X:00.0" % (index + 1)
            gpu.total, gpu.reserved, gpu.used = 80 * GIB, 600 << 20, 16 * GIB
            gpu.utilization, gpu.temperature, gpu.power_mw, gpu.power_limit_mw = (
                50,
                40 + index,
                100_000,
                400_000,
            )
        self._state.magic = MAGIC

    def gpu(self, index: int) -> Gpu:
        """Return the GPU that the driver lists at `index`."""
        return self._state.gpu[index]

    def list_gpus(self, number: int) -> None:
        """Have the driver list only the first `number` GPUs."""
        self._state.gpus = number

    def fail(self, call: Call, answer: int) -> None:
        """Have the call answer an error code for every GPU; 0 heals it."""
        self._state.faults[call].answer = answer

    def hang(self, call: Call, hang_ms: int = FOR_EVER_MS) -> None:
        """Have the call sleep for every GPU; 0 heals it."""
        self._state.faults[call].hang_ms = hang_ms

    def calls(self, call: Call) -> int:
        """Count how often the call was made."""
        return self._state.calls[call]
