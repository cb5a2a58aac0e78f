"""The memory of a cgroup (v2), as its memory.stat tells it."""

from typing import Final

from msgspec import Struct

# What `kernel` is made of, for a kernel before 5.18, which does not add it up. Slab that can be
# reclaimed is left out at once, and `sock` is no part of it: https://docs.kernel.org/admin-guide/cgroup-v2.html
KERNEL_PARTS: Final = (b"kernel_stack", b"pagetables", b"percpu", b"vmalloc", b"slab_unreclaimable")


class CgroupMemory(Struct, frozen=True):
    """What the processes of a cgroup hold, and apart from it their page cache."""

    own_bytes: int
    file_bytes: int


def parse_memory(stat: bytes, swap_bytes: int) -> CgroupMemory | None:
    """Read memory.stat; None where it lacks anonymous, shared or file memory.

    Own is anon + shmem + kernel + swap: what has to be given back by a process, and cannot be taken
    from it. Of the kernel's memory, slab that can be reclaimed is left out: the dentries and inodes
    of a data set that was scanned are a cache, as its pages are, and go when memory is wanted. `file`
    holds shmem too, and is given without it.
    """
    lines = b"\n" + stat
    anon, shmem, file = _number(lines, b"anon"), _number(lines, b"shmem"), _number(lines, b"file")
    if anon is None or shmem is None or file is None:
        return None
    return CgroupMemory(anon + shmem + _kernel(lines) + swap_bytes, max(0, file - shmem))


def _kernel(lines: bytes) -> int:
    whole = _number(lines, b"kernel")
    if whole is None:
        return sum(_number(lines, name) or 0 for name in KERNEL_PARTS)
    # The two are counted in batches on each CPU, so the part may be ahead of the whole for a moment.
    return max(0, whole - (_number(lines, b"slab_reclaimable") or 0))


def _number(lines: bytes, name: bytes) -> int | None:
    """Find one figure; ten times cheaper than to split the whole file."""
    begin = lines.find(b"\n" + name + b" ")
    if begin < 0:
        return None
    begin += len(name) + 2
    end = lines.find(b"\n", begin)
    number = lines[begin:] if end < 0 else lines[begin:end]
    return int(number) if number.isdigit() else None
