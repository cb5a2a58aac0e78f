"""The settings of a llama-server that its memory follows from."""

from typing import Final

from msgspec import Struct

from supervisor.llama.ggml_types import TYPES, GgmlType
from supervisor.llama.shape import Shape

CACHE_TYPES: Final = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
DEFAULT_CACHE_RAM_BYTES: Final = 8 << 30  # of llama-server, where --cache-ram is not given
_PAD: Final = 256  # cells; llama_context pads each context to them
_BY_NAME: Final = {kind.name: kind for kind in TYPES.values()}


class Settings(Struct, frozen=True):
    """Flags of llama-server; the defaults are its own, but for `n_gpu_layers`, which it derives.

    `n_gpu_layers` counts from the output: 1 is the output layer alone, layers + 1 and more is all.
    `ctx` 0 is the model's own. `shares` has one number for each GPU in use (--tensor-split).
    """

    n_gpu_layers: int = 0  # -ngl
    ctx: int = 0  # -c, for all slots together
    batch: int = 2048  # -b
    ubatch: int = 512  # -ub
    slots: int = 4  # -np
    kv_unified: bool = True  # -kvu; a written -np turns it off
    cache_k: str = "f16"  # -ctk
    cache_v: str = "f16"  # -ctv
    flash_attention: bool = True  # -fa, auto by default, which finds it on every GPU of today
    kv_offload: bool = True  # -nkvo turns it off
    cpu_moe_layers: int = 0  # --n-cpu-moe: of the first layers the experts stay on the host
    swa_full: bool = False  # --swa-full
    mmap: bool = True  # --no-mmap turns it off
    cache_ram_bytes: int = DEFAULT_CACHE_RAM_BYTES  # --cache-ram
    mmproj_bytes: int = 0  # the size of the file given with --mmproj
    shares: tuple[float, ...] = (1.0,)


class Context(Struct, frozen=True):
    """What llama.cpp makes of the settings: `cells` for each of `streams` caches, and `tokens` at a time."""

    ctx: int
    cells: int
    streams: int
    tokens: int


def context_of(shape: Shape, settings: Settings) -> Context:
    """Return the context as src/llama-context.cpp (llama_context) pads and shares it out.

    n_batch = min(ctx, batch) and n_ubatch = min(n_batch, ubatch), with ctx as it was given; then ctx is
    padded to 256. Unified, all slots share it; else each has pad256(ctx / slots). Raises ValueError where
    neither the settings nor the model name a context.
    """
    given = settings.ctx or shape.context_length
    if not given:
        raise ValueError("the model does not name its context_length: a ctx must be given")
    tokens = min(given, settings.batch, settings.ubatch)
    ctx = padded(given)
    if settings.kv_unified or settings.slots == 1:
        return Context(ctx, ctx, 1, tokens)
    cells = padded(ctx // settings.slots)
    return Context(cells * settings.slots, cells, settings.slots, tokens)


def padded(cells: int) -> int:
    """Return a number of cells as llama.cpp pads it."""
    return -(-cells // _PAD) * _PAD


def cache_type(name: str) -> GgmlType:
    """Return a type of numbers that a KV cache may have; raises ValueError for another."""
    if name not in CACHE_TYPES:
        raise ValueError(f"{name!r} is no type of a KV cache: {', '.join(CACHE_TYPES)}")
    return _BY_NAME[name]
