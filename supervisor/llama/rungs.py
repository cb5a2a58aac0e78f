"""Smaller settings for a server that ran out of memory, by what they are reckoned to save. Pure.

What users notice least comes first: the prompt cache, a smaller micro-batch, a KV cache in q8_0, fewer slots,
a shorter context, then experts and layers on the host, which make each token slower.
"""

from collections.abc import Callable, Iterator
from typing import Final, Literal

from msgspec.structs import replace

from supervisor.llama.fit import Need, need
from supervisor.llama.model import Model
from supervisor.llama.recommend import CONTEXTS, SMALLEST_ON_GPU, takes_q8_0
from supervisor.llama.settings import Settings

Shortage = Literal["device", "loading", "serving", "shared"]
"""What ran out: a GPU's memory, the host's before and after the prompt cache grew, or that of both in one."""
SHORTAGES: Final[tuple[Shortage, ...]] = ("device", "loading", "serving", "shared")

# Two rungs come before the CPU, so each has to matter. What is chosen for `auto` falls by as much (decide).
LESS: Final = 0.8
# What saves less than this part of the need, or than the reckoning may be off by, is not worth its price.
_WORTH: Final = 40
_WORTH_BYTES: Final = 32 << 20
_UBATCHES: Final = (256, 128)
_WIDE: Final = frozenset({"f32", "f16", "bf16"})
_CACHE_RAM_STEP: Final = 1 << 20  # --cache-ram is told in MiB

_Measure = Callable[[Model, Settings, Callable[[Settings], bool]], Iterator[Settings]]


def smaller(
    model: Model, settings: Settings, shortage: Shortage, *, keep_ubatch: bool = False
) -> Settings | None:
    """Return settings that are reckoned to need clearly less of what ran out, None where there are none.

    A fifth less where that can be had, and no more on any GPU than before; never no layer at all. With
    `keep_ubatch` the micro-batch stays: an input to embed, or an image, has to fit one.
    """
    before = need(model, settings)
    whole = held_bytes(before, shortage)
    found, left = settings, whole

    def enough(candidate: Settings) -> bool:
        return held_bytes(need(model, candidate), shortage) <= whole * LESS

    for measure in _MEASURES[1 if keep_ubatch else 0 :]:
        for candidate in measure(model, found, enough):
            after = need(model, candidate)
            less = held_bytes(after, shortage)
            if left - less >= max(whole // _WORTH, _WORTH_BYTES) and (
                shortage != "device" or _no_more(after, before)
            ):
                found, left = candidate, less
                if left <= whole * LESS:
                    return found
    return None if found is settings else found


def held_bytes(found: Need, shortage: Shortage) -> int:
    """Return what a server needs of the memory that ran out."""
    devices = sum(device.total_bytes for device in found.devices)
    match shortage:
        case "device":
            return devices
        case "loading":
            return found.host.own_bytes - found.host.prompt_cache_bytes
        case "serving":
            return found.host.own_bytes
        case "shared":
            return devices + found.host.total_bytes


def slot_ctx(model: Model, settings: Settings) -> int:
    """Return how long one request may be, in tokens."""
    ctx = settings.ctx or model.shape.context_length or 0
    return ctx if settings.kv_unified else ctx // settings.slots


def _no_more(after: Need, before: Need) -> bool:
    pairs = zip(after.devices, before.devices, strict=False)
    return all(now.total_bytes <= past.total_bytes for now, past in pairs)


def _ubatch(model: Model, settings: Settings, _enough: Callable[[Settings], bool]) -> Iterator[Settings]:
    ctx = settings.ctx or model.shape.context_length or 0
    tokens = min(ctx, settings.batch, settings.ubatch)
    yield from (replace(settings, ubatch=size) for size in _UBATCHES if size < tokens)


def _prompt_cache(
    _model: Model, settings: Settings, _enough: Callable[[Settings], bool]
) -> Iterator[Settings]:
    quarter = settings.cache_ram_bytes // 4 // _CACHE_RAM_STEP * _CACHE_RAM_STEP
    yield from (
        replace(settings, cache_ram_bytes=size) for size in (quarter, 0) if size < settings.cache_ram_bytes
    )


def _kv_in_q8_0(model: Model, settings: Settings, _enough: Callable[[Settings], bool]) -> Iterator[Settings]:
    wide = {settings.cache_k, settings.cache_v} & _WIDE
    if wide and settings.flash_attention and takes_q8_0(model.shape):
        cache_k = "q8_0" if settings.cache_k in _WIDE else settings.cache_k
        yield replace(
            settings, cache_k=cache_k, cache_v="q8_0" if settings.cache_v in _WIDE else settings.cache_v
        )


def _slots(model: Model, settings: Settings, _enough: Callable[[Settings], bool]) -> Iterator[Settings]:
    """Yield half the slots, each with the context that it had; unified slots share theirs."""
    if settings.slots > 1 and not settings.kv_unified:
        half = settings.slots // 2
        yield replace(settings, slots=half, ctx=slot_ctx(model, settings) * half)


def _context(model: Model, settings: Settings, _enough: Callable[[Settings], bool]) -> Iterator[Settings]:
    """Yield half the context, or the least that is of use: once, for whoever uses the server notices."""
    least = SMALLEST_ON_GPU if settings.n_gpu_layers and settings.shares else CONTEXTS[-1]
    slot = slot_ctx(model, settings)
    shorter = max(slot // 2, least)
    if shorter < slot:
        yield replace(settings, ctx=shorter * (1 if settings.kv_unified else settings.slots))


def _experts(model: Model, settings: Settings, enough: Callable[[Settings], bool]) -> Iterator[Settings]:
    """Yield the fewest layers more whose experts lie on the host."""
    layers = model.shape.layers
    if model.shape.experts is None or settings.cpu_moe_layers >= layers:
        return
    counts = range(settings.cpu_moe_layers + 1, layers + 1)
    yield replace(
        settings, cpu_moe_layers=_first(counts, lambda n: enough(replace(settings, cpu_moe_layers=n)))
    )


def _layers(model: Model, settings: Settings, enough: Callable[[Settings], bool]) -> Iterator[Settings]:
    """Yield the most layers on GPUs that are few enough."""
    most = min(settings.n_gpu_layers, model.shape.layers + 1) - 1
    if settings.shares and most > 0:
        counts = range(most, 0, -1)
        yield replace(
            settings, n_gpu_layers=_first(counts, lambda n: enough(replace(settings, n_gpu_layers=n)))
        )


def _first(counts: range, enough: Callable[[int], bool]) -> int:
    """Return the first count that is enough, of those that get better and better; else the last."""
    low, high = 0, len(counts) - 1
    while low < high:
        middle = (low + high) // 2
        if enough(counts[middle]):
            high = middle
        else:
            low = middle + 1
    return counts[low]


_MEASURES: Final[tuple[_Measure, ...]] = (
    *(_ubatch, _prompt_cache, _kv_in_q8_0, _slots, _context, _experts, _layers),
)
