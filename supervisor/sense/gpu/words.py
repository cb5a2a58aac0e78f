"""Why there is no GPU to read, in words for a person."""

from collections.abc import Mapping
from typing import Final

from supervisor.sense.gpu.wire import NO_BINDINGS, NO_GPU, Fault

NO_ANSWER: Final = "the NVIDIA driver does not answer"

_DRIVER_NOT_LOADED: Final = 9
_LIBRARY_NOT_FOUND: Final = 12
_LIBRARY_MISMATCH: Final = 18

# Codes after which there is nothing to hurry for: this machine has no GPU to read.
ABSENT_CODES: Final = frozenset({NO_BINDINGS, NO_GPU, _DRIVER_NOT_LOADED, _LIBRARY_NOT_FOUND})

_WHY: Final[Mapping[int, str]] = {
    NO_GPU: "the NVIDIA driver lists no GPU",
    _DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded",
    _LIBRARY_NOT_FOUND: "no NVIDIA driver: libnvidia-ml.so.1 is not installed",
    _LIBRARY_MISMATCH: "the NVIDIA driver was upgraded underneath its library: reload its modules or reboot",
}


def why_none(fault: Fault) -> str:
    """Say why the driver could not be opened."""
    if fault["code"] == NO_BINDINGS:
        return f"cannot import pynvml of nvidia-ml-py: {fault['text']}"
    return _WHY.get(fault["code"], f"cannot open the NVIDIA driver: {fault['text']}")
