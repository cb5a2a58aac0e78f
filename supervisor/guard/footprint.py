"""What this process itself holds of a device's memory, now and at most until now."""

import sys
from typing import NamedTuple

from supervisor.guard.loaded import Modules, loaded
from supervisor.guard.room import kib_of


class Footprint(NamedTuple):
    """Bytes that this process holds; None where nobody tells."""

    current_bytes: int | None = None
    peak_bytes: int | None = None


def footprint(device: str, modules: Modules = sys.modules, proc: str = "/proc") -> Footprint:
    """Read it: what torch has allocated on a CUDA device, else this process's RSS, its peak from the start.

    A CUDA device that torch does not work on tells nothing of one process.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return _host(proc)
    torch = loaded("torch", modules)
    if torch is None or not torch.cuda.is_initialized():
        return Footprint()
    at = int(index or 0)
    return Footprint(torch.cuda.memory_allocated(at), torch.cuda.max_memory_allocated(at))


def _host(proc: str) -> Footprint:
    try:
        with open(f"{proc}/self/status", "rb") as file:  # noqa: PTH123 - pathlib costs 3 ms at import
            lines = b"\n" + file.read()
    except OSError:
        return Footprint()
    return Footprint(kib_of(lines, b"VmRSS"), kib_of(lines, b"VmHWM"))
