import pytest
from msgspec.structs import replace

from supervisor.model.headroom import effective_available
from supervisor.model.reading import Missing
from supervisor.model.snapshot import HostSample

GIB = 1 << 30


@pytest.mark.parametrize(
    ("available", "free", "cache", "swap", "left"),
    [
        (40, 2, 45, 0, 40),  # memory full of files: all of it can be had
        (36, 1, 3, 0, 4),  # kernel caches make up the rest: not to be counted on without swap
        (36, 1, 3, 8, 12),  # swap bridges as far as it is free
        (36, 1, 3, 64, 36),
        (1, 3, 2, 0, 1),
    ],
)
def test_what_is_left_is_what_can_be_had(available: int, free: int, cache: int, swap: int, left: int) -> None:
    sample = HostSample(
        read_s=0.0,
        memory_available_bytes=available * GIB,
        memory_free_bytes=free * GIB,
        memory_cache_bytes=cache * GIB,
        swap_free_bytes=swap * GIB,
    )
    assert effective_available(sample) == left * GIB


def test_what_is_free_on_the_lists_of_the_cpus_can_be_had_too() -> None:
    sample = HostSample(
        read_s=0.0,
        memory_available_bytes=36 * GIB,
        memory_free_bytes=1 * GIB,
        memory_cache_bytes=3 * GIB,
        memory_per_cpu_bytes=2 * GIB,
        swap_free_bytes=0,
    )
    assert effective_available(sample) == 6 * GIB
    assert effective_available(replace(sample, swap_free_bytes=Missing("x"))) == 38 * GIB
    assert effective_available(replace(sample, memory_per_cpu_bytes=Missing("x"))) == 4 * GIB


def test_without_a_cross_check_the_kernels_word_counts() -> None:
    sample = HostSample(read_s=0.0, memory_available_bytes=3 * GIB, memory_free_bytes=Missing("x"))
    assert effective_available(sample) == 3 * GIB


def test_what_is_not_known_is_missing() -> None:
    assert effective_available(HostSample(0.0, memory_available_bytes=Missing("no meminfo"))) == Missing(
        "no meminfo"
    )
