"""The typed face of pynvml, and the only module that imports it. Runs in the helper: any call may hang.

Every function raises `DriverError`. Where a call was renamed over the years, the newest is tried first.
"""

# pynvml has no annotations; what comes out of it is given a type here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeArgument=false

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, Final, NewType

import pynvml

if not str(pynvml.__file__).endswith("pynvml.py"):  # a package of that name shadows the module
    msg = f"{pynvml.__file__} is not of nvidia-ml-py; uninstall the distribution pynvml"
    raise ImportError(msg)

Handle = NewType("Handle", object)

NOT_SUPPORTED: Final = 3
NO_PERMISSION: Final = 4
INSUFFICIENT_SIZE: Final = 7
FUNCTION_NOT_FOUND: Final = 13
GPU_IS_LOST: Final = 15
LIBRARY_MISMATCH: Final = 18
ARGUMENT_VERSION_MISMATCH: Final = 25

# Another version of the same call may still work after one of these.
TRY_OLDER: Final = frozenset({NOT_SUPPORTED, FUNCTION_NOT_FOUND, ARGUMENT_VERSION_MISMATCH})

# NVML_VALUE_NOT_AVAILABLE, always so under WDDM and WSL2. Printed as bytes it is 16 million TiB.
NOT_AVAILABLE: Final = 2**64 - 1

Entry = tuple[int, int]  # pid and bytes


class DriverError(Exception):
    """NVML answered an error."""

    def __init__(self, code: int, text: str) -> None:
        """Keep NVML's `code`: its exceptions can be neither hashed nor compared with other things."""
        super().__init__(text)
        self.code = code


def begin() -> None:
    """Load the library and open the driver."""
    _call(pynvml.nvmlInit)


def end() -> None:
    """Close the driver."""
    _call(pynvml.nvmlShutdown)


def count() -> int:
    """Return how many GPUs there are."""
    return int(_call(pynvml.nvmlDeviceGetCount))


def handle(index: int) -> Handle:
    """Return the handle of the GPU at `index`, which changes when another GPU is lost."""
    return Handle(_call(pynvml.nvmlDeviceGetHandleByIndex, index))


def uuid(gpu: Handle) -> str:
    """Return what names this GPU for good."""
    return str(_call(pynvml.nvmlDeviceGetUUID, gpu))


def name(gpu: Handle) -> str:
    """Return the name of the product."""
    return str(_call(pynvml.nvmlDeviceGetName, gpu))


def bus_id(gpu: Handle) -> str:
    """Return the PCI address, `00000000:3B:00.0`."""
    text = _call(pynvml.nvmlDeviceGetPciInfo, gpu).busId
    return text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)


def memory(gpu: Handle) -> tuple[int, int]:
    """Return total and used bytes; version 1, for old drivers, counts the driver's reserve as used."""
    try:
        found = _call(pynvml.nvmlDeviceGetMemoryInfo, gpu, pynvml.nvmlMemory_v2)
    except DriverError as error:
        if error.code not in TRY_OLDER:
            raise
        found = _call(pynvml.nvmlDeviceGetMemoryInfo, gpu)
    return int(found.total), int(found.used)


def temperature(gpu: Handle) -> int:
    """Return degrees Celsius."""
    newer = getattr(pynvml, "nvmlDeviceGetTemperatureV", None)  # not in nvidia-ml-py of 2023
    if newer is not None:
        try:
            return int(_call(newer, gpu, pynvml.NVML_TEMPERATURE_GPU))
        except DriverError as error:
            if error.code not in TRY_OLDER:
                raise
    return int(_call(pynvml.nvmlDeviceGetTemperature, gpu, pynvml.NVML_TEMPERATURE_GPU))


def power_mw(gpu: Handle) -> int:
    """Return the power drawn, in milliwatts."""
    return int(_call(pynvml.nvmlDeviceGetPowerUsage, gpu))


def power_limit_mw(gpu: Handle) -> int:
    """Return the power limit in force, in milliwatts."""
    return int(_call(pynvml.nvmlDeviceGetEnforcedPowerLimit, gpu))


def utilization(gpu: Handle) -> int:
    """Return the percentage of time in which a kernel ran."""
    return int(_call(pynvml.nvmlDeviceGetUtilizationRates, gpu).gpu)


def throttle(gpu: Handle) -> int:
    """Return the bits of `nvmlClocksEventReasons`: why the clocks are lower than they could be."""
    newer = getattr(pynvml, "nvmlDeviceGetCurrentClocksEventReasons", None)  # so called since R535
    if newer is not None:
        try:
            return int(_call(newer, gpu))
        except DriverError as error:
            if error.code not in TRY_OLDER:
                raise
    return int(_call(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, gpu))


def compute(gpu: Handle) -> Sequence[Entry]:
    """Return the processes with a CUDA context."""
    return _listed("nvmlDeviceGetComputeRunningProcesses", gpu)


def graphics(gpu: Handle) -> Sequence[Entry]:
    """Return the processes with a graphics context: Vulkan workers are here."""
    return _listed("nvmlDeviceGetGraphicsRunningProcesses", gpu)


def mps(gpu: Handle) -> Sequence[Entry]:
    """Return the clients of MPS."""
    return _listed("nvmlDeviceGetMPSComputeRunningProcesses", gpu)


def _call(function: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - each caller knows
    try:
        return function(*arguments)
    except pynvml.NVMLLibraryMismatchError as error:  # not an NVMLError; raised where a symbol is absent
        raise DriverError(FUNCTION_NOT_FOUND, str(error)) from None
    except pynvml.NVMLError as error:
        raise _driver_error(int(vars(error)["value"])) from None
    except UnicodeDecodeError as error:
        raise DriverError(pynvml.NVML_ERROR_UNKNOWN, f"it answers no text: {error}") from None


def _driver_error(code: int) -> DriverError:
    return DriverError(code, str(pynvml.NVMLError(code)))


def _listed(base: str, gpu: Handle) -> Sequence[Entry]:
    """Return one process list, with one driver call where pynvml makes two.

    The call holds the driver's global lock, 4.5 ms on a laptop with an RTX 4090 (MangoHud#2104), and the
    workers wait for it. _v2 and _v3 fill the same 24 bytes, but for a few drivers of 2023: the caller
    checks the pids.
    """
    for version in ("_v3", "_v2"):
        function = getattr(pynvml.nvmlLib, base + version, None)
        if function is not None:
            return _filled(function, gpu)
    raise _driver_error(FUNCTION_NOT_FOUND)


def _filled(function: Callable[..., int], gpu: Handle) -> Sequence[Entry]:
    room = 128
    while True:
        entries = (pynvml.c_nvmlProcessInfo_v2_t * room)()
        found = ctypes.c_uint(room)
        code = function(gpu, ctypes.byref(found), entries)
        if code == INSUFFICIENT_SIZE and found.value > room:
            room = found.value * 2
            continue
        if code != 0:
            raise _driver_error(code)
        return [(int(entry.pid), int(entry.usedGpuMemory)) for entry in entries[: found.value]]
