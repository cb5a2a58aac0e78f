"""GPU memory of one worker: the sum of its own pids over the process lists of the GPUs. Pure."""

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuSample, Sighting


def with_vram(sighting: Sighting, gpus: Sequence[GpuSample], pinned: Collection[str] = ()) -> Sighting:
    """Return the sighting with its GPU memory, as old as the oldest list that it comes from.

    Only pids of the worker's own tree are looked up; a list may name anything else. A sum without one of
    its parts is Missing, but `vram_by_gpu` keeps the parts that are known. `pinned` are the UUIDs that the
    worker is confined to, so that another GPU's fault does not blind its cap; none: it may use every GPU.
    """
    mine = [gpu for gpu in gpus if not pinned or gpu.uuid in pinned]
    absent = sorted(set(pinned) - {gpu.uuid for gpu in mine})
    if not gpus or absent:
        why = f"GPU {absent[0]} is not known" if gpus else "no GPU"
        return replace(sighting, vram_bytes=Missing(why), vram_by_gpu={}, vram_read_s=0.0)

    pids = frozenset(sighting.pids)
    held = {gpu.uuid: _held(gpu, pids) for gpu in mine}
    known = {uuid: held_bytes for uuid, held_bytes in held.items() if not isinstance(held_bytes, Missing)}
    missing = [held_bytes for held_bytes in held.values() if isinstance(held_bytes, Missing)]
    return replace(
        sighting,
        vram_read_s=min(gpu.read_s for gpu in mine),
        vram_bytes=missing[0] if missing else sum(known.values()),
        vram_by_gpu=known,
    )


def _held(gpu: GpuSample, pids: Collection[int]) -> int | Missing:
    """Return what these processes hold on one GPU."""
    if isinstance(gpu.processes, Missing):
        return Missing(f"GPU {gpu.index}: {gpu.processes.why}")
    held_bytes = 0
    for process in gpu.processes:
        if process.pid not in pids:
            continue
        if isinstance(process.memory_bytes, Missing):
            return Missing(f"GPU {gpu.index}: pid {process.pid}: {process.memory_bytes.why}")
        held_bytes += process.memory_bytes
    return held_bytes
