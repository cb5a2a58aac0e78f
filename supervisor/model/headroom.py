"""How much memory the machine really has left."""

from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuSample, HostSample


def effective_available(sample: HostSample) -> int | Missing:
    """Return what can still be had before the machine stalls, in bytes.

    MemAvailable, but no more than MemFree, the page cache and the free swap together, and what is free on
    the lists of the CPUs, where that was read. MemAvailable counts
    kernel caches (SReclaimable) too, which are given back late, or never when they are pinned; swap
    bridges that, and a machine without any stands still. A server of 192 GB without swap locked up with
    MemAvailable still 35 GB above MemFree, and leaving the kernel caches out had earlyoom act in time
    there (github.com/rfjakob/earlyoom/issues/320). MemFree alone, or half-way to it, would cry wolf on
    every machine whose memory is full of files, which is most.

    What a process gives back goes to lists of the CPU that frees it first. Since Linux 6.7 these take up to
    an eighth of the machine, and for seconds: of 1,200 MiB of a process that had ended, MemFree and
    MemAvailable showed 20 after 1.5 s (6.18; the lists had the rest). Whoever needs it gets it.
    """
    available_bytes = sample.memory_available_bytes
    parts = (sample.memory_free_bytes, sample.memory_cache_bytes, sample.swap_free_bytes)
    if isinstance(available_bytes, Missing):
        return available_bytes
    listed = sample.memory_per_cpu_bytes
    known_bytes = [part for part in parts if not isinstance(part, Missing)]
    if len(known_bytes) == len(parts):
        available_bytes = min(available_bytes, sum(known_bytes))
    return available_bytes if isinstance(listed, Missing) else available_bytes + listed


def gpu_memory(gpu: GpuSample, host: HostSample) -> tuple[int | Missing, int | Missing]:
    """Return total and used memory of a GPU in bytes; where it is the machine's, what the machine says."""
    total_bytes, used_bytes = gpu.memory_total_bytes, gpu.memory_used_bytes
    if not gpu.unified:
        return total_bytes, used_bytes
    if isinstance(total_bytes, Missing):
        total_bytes = host.memory_total_bytes
    if isinstance(used_bytes, Missing):
        if isinstance(host.memory_available_bytes, Missing):
            used_bytes = host.memory_available_bytes
        elif isinstance(total_bytes, int):
            used_bytes = total_bytes - host.memory_available_bytes
    return total_bytes, used_bytes
