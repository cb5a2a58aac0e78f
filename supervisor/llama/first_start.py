"""Conservative settings for a first start, where the model is not known."""

from typing import Final

from msgspec import Struct

from supervisor.llama.room import GpuRoom, Room, memory_room_bytes, threads_of
from supervisor.model.reading import Missing

_GB: Final = 10**9
# A card of 16 GB shows 15 and some, and its driver has some of that: nine tenths free counts as all of it.
_COUNTS: Final = 0.9
CLASSES: Final = ((16, 25), (8, 15), (4, 8))  # GB of GPU memory free, layers
CONTEXT: Final = 2048
_CACHE_RAM_PART: Final = 8
_CACHE_RAM_STEP: Final = 256 << 20
_MOST_CACHE_RAM: Final = 2 << 30


class FirstStart(Struct, frozen=True):
    """The settings: for a model of 7 to 8 billion weights in 4 bits, and not reckoned for any."""

    n_gpu_layers: int
    threads: int
    cache_ram_bytes: int
    gpu: GpuRoom | None
    ctx: int = CONTEXT
    batch: int = 256
    mmap: bool = True
    mlock: bool = False


def first_start(free: Room) -> FirstStart:
    """Choose by the GPU with most memory free: from 16 GB 25 layers, from 8 GB 15, from 4 GB 8, else none.

    A GPU whose free memory is not known counts as none; of a unified one RAM is counted.
    """
    best, best_bytes = None, 0
    for gpu in free.gpus:
        room = memory_room_bytes(free) if gpu.unified else gpu.free_bytes
        if not isinstance(room, Missing) and room > best_bytes:
            best, best_bytes = gpu, room
    layers = next((count for size, count in CLASSES if best_bytes >= class_bytes(size)), 0)
    return FirstStart(layers, threads_of(free), _cache_ram(free), best if layers else None)


def class_bytes(size: int) -> int:
    """Return how much has to be free to count as a GPU of so many GB."""
    return int(size * _GB * _COUNTS)


def _cache_ram(free: Room) -> int:
    memory = memory_room_bytes(free)
    if isinstance(memory, Missing):
        return 0
    return min(_MOST_CACHE_RAM, memory // _CACHE_RAM_PART // _CACHE_RAM_STEP * _CACHE_RAM_STEP)
