"""Without a model: the conservative table."""

import pytest

from supervisor.llama.first_start import first_start
from supervisor.llama.room import GpuRoom, Room
from supervisor.model.reading import Missing

GIB = 1 << 30
UNREAD = Missing("it cannot be read")


def gpu(free: int | Missing, index: int = 0, *, unified: bool = False) -> GpuRoom:
    return GpuRoom(f"GPU-{index}", index, "a card", free, free, unified)


@pytest.mark.parametrize(
    ("free", "layers"),
    [
        (80 * GIB, 25),
        (15 * GIB, 25),  # what a card of 16 GB has
        (12 * GIB, 15),
        (7_900_000_000, 15),
        (6 * GIB, 8),
        (3_900_000_000, 8),
        (3 * GIB, 0),
        (UNREAD, 0),
    ],
)
def test_layers_follow_from_the_gpus_free_memory(free: int | Missing, layers: int) -> None:
    found = first_start(Room(32 * GIB, 30 * GIB, 8.0, (gpu(free),)))
    assert found.n_gpu_layers == layers
    assert (found.gpu is None) == (layers == 0)
    assert (found.ctx, found.batch, found.threads, found.mmap, found.mlock) == (2048, 256, 4, True, False)


def test_the_roomiest_gpu_is_taken() -> None:
    found = first_start(Room(32 * GIB, 30 * GIB, 8.0, (gpu(5 * GIB), gpu(9 * GIB, 1), gpu(UNREAD, 2))))
    assert (found.n_gpu_layers, found.gpu) == (15, gpu(9 * GIB, 1))


def test_of_a_gpu_that_shares_the_memory_the_memory_counts_without_its_reserve() -> None:
    assert first_start(Room(16 * GIB, 12 * GIB, 8.0, (gpu(UNREAD, unified=True),))).n_gpu_layers == 15


def test_without_a_gpu_it_is_the_cpu_with_a_bounded_prompt_cache() -> None:
    found = first_start(Room(16 * GIB, 10 * GIB, 3.0))
    assert (found.n_gpu_layers, found.threads, found.cache_ram_bytes) == (0, 1, GIB)
    assert first_start(Room(512 * GIB, 500 * GIB, 3.0)).cache_ram_bytes == 2 * GIB
    assert first_start(Room(UNREAD, UNREAD, UNREAD)).cache_ram_bytes == 0
