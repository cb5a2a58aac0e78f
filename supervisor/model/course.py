"""The course of readings over a longer time, thinned out for a small picture."""

from typing import Literal

from msgspec import Struct


class Course(Struct, frozen=True):
    """What one subject held over time: a column for each quantity, one value for each of `at_s`.

    Times are Unix times of the beginnings of equal slots; a slot without a reading is left out. Of a
    worker and of a GPU each value is the most that was read within the slot, of the host the least that
    was available. None is a slot in which this quantity could not be read, or that no such subject has.
    """

    kind: Literal["worker", "gpu", "host"]
    name: str  # of the worker; the GPU's UUID; empty for the host
    at_s: tuple[int, ...] = ()
    memory_bytes: tuple[int | None, ...] = ()  # anon + shmem + swap; used on a GPU; available on the host
    vram_bytes: tuple[int | None, ...] = ()  # of a worker
    utilization_percent: tuple[float | None, ...] = ()  # of a GPU
