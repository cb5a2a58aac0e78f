"""Keeps a worker below its cap of GPU memory, as far as torch's allocator is concerned."""

import os
import sys
from collections.abc import Mapping
from typing import Any, Final

from supervisor.guard.events import note
from supervisor.guard.loaded import loaded

_MIB: Final = 1 << 20
_CAP: Final = "GPU_SUPERVISOR_VRAM_CAP"
_BESIDE_BYTES: Final = 512 * _MIB  # a CUDA context is some 300 to 500


def set_vram_fraction(
    cap_bytes: int | None = None,
    device: str = "cuda:0",
    *,
    beside_bytes: int = _BESIDE_BYTES,
    modules: Mapping[str, Any] = sys.modules,
    environment: Mapping[str, str] = os.environ,
) -> int | None:
    """Make torch raise OutOfMemoryError before the worker is over its cap; return what torch may allocate.

    `cap_bytes` is GPU_SUPERVISOR_VRAM_CAP where it is None; where there is no cap either, nothing is done and
    None returned. Of the cap, `beside_bytes` are kept for what is not torch's allocator's, and what this does
    not limit: the CUDA context and loaded kernels (300 to 500 MiB), what libraries allocate for themselves
    (cuBLAS and cuDNN handles, NCCL's buffers), other allocators in the process (CuPy, RMM, llama.cpp, managed
    memory), other processes of the worker, other GPUs. The supervisor counts all of that against the cap.
    Call it once torch is imported and before the model is loaded; it makes the CUDA context.

    Raises RuntimeError where torch is not loaded or sees no CUDA device, and ValueError for a cap that leaves
    the allocator nothing.
    """
    cap = _cap(environment) if cap_bytes is None else cap_bytes
    if cap is None:
        return None
    torch = loaded("torch", modules)
    if torch is None:
        raise RuntimeError(f"cannot cap the memory of {device}: torch is not loaded")
    if not torch.cuda.is_available():
        raise RuntimeError(f"cannot cap the memory of {device}: torch sees no CUDA device")
    if cap <= beside_bytes:
        raise ValueError(f"cannot cap the memory of {device}: of {cap} B, {beside_bytes} B are not for torch")
    index = int(device.partition(":")[2] or 0)
    total: int = torch.cuda.mem_get_info(index)[1]
    allowed = min(cap - beside_bytes, total)
    torch.cuda.set_per_process_memory_fraction(allowed / total, index)
    note(
        "VRAM capped: torch's allocator may have %d MiB of %s, the cap is %d MiB; "
        "the CUDA context, libraries, other allocators and other processes are not limited by it",
        allowed // _MIB,
        device,
        cap // _MIB,
    )
    return allowed


def _cap(environment: Mapping[str, str]) -> int | None:
    text = environment.get(_CAP, "")
    if not text:
        return None
    if not text.isdecimal() or not int(text):
        raise ValueError(f"cannot use {_CAP}={text[:40]}: it is no number of bytes above 0")
    return int(text)
