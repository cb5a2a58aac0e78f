"""What a machine has free for a server, and what is kept back of it."""

from typing import Final

from msgspec import Struct

from supervisor.model.fit import GPU_RESERVE_BYTES
from supervisor.model.reading import Missing

_MOST_RESERVE_BYTES: Final = 4 << 30  # host.warn_available: below it the supervisor warns
_LEAST_RESERVE_BYTES: Final = 1 << 30
_RESERVED_PART: Final = 8


class GpuRoom(Struct, frozen=True):
    """One GPU. With `unified` its memory is the machine's, and its own sizes are Missing."""

    uuid: str
    index: int
    name: str
    total_bytes: int | Missing
    free_bytes: int | Missing
    unified: bool = False


class Room(Struct, frozen=True):
    """What is free now. Memory is the least of MemAvailable and what every cgroup above leaves."""

    memory_total_bytes: int | Missing
    memory_free_bytes: int | Missing
    cores: float | Missing  # that may be used: affinity and cpu.max
    gpus: tuple[GpuRoom, ...] = ()
    gpu_missing: str | None = None  # why no GPU is known


def memory_reserve_bytes(room: Room) -> int:
    """Return what is kept back of RAM: an eighth of it, from 1 to 4 GiB."""
    total = room.memory_total_bytes
    if isinstance(total, Missing):
        return _MOST_RESERVE_BYTES
    return min(_MOST_RESERVE_BYTES, max(_LEAST_RESERVE_BYTES, total // _RESERVED_PART))


def memory_room_bytes(room: Room) -> int | Missing:
    """Return what a server may take of RAM."""
    free = room.memory_free_bytes
    return free if isinstance(free, Missing) else max(0, free - memory_reserve_bytes(room))


def gpu_room_bytes(gpu: GpuRoom, room: Room) -> int | Missing:
    """Return what a server may take on a GPU; on a unified one, of the RAM."""
    if gpu.unified:
        return memory_room_bytes(room)
    free = gpu.free_bytes
    return free if isinstance(free, Missing) else max(0, free - GPU_RESERVE_BYTES)


def threads_of(room: Room) -> int:
    """Return half the cores, at least one; one where they are not known."""
    return 1 if isinstance(room.cores, Missing) else max(1, int(room.cores / 2))
