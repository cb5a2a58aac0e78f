"""Settings for a model on a machine, so that what it needs is less than what is free. Pure.

A model's header is read before (model.read_model), which may take seconds for a hostile file: a loop has to
leave that to a thread. What is here takes milliseconds, for the 1,024 layers
that a file may claim a fifth of a second.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from supervisor.llama.fit import Need, need
from supervisor.llama.model import Model
from supervisor.llama.room import GpuRoom, Room, gpu_room_bytes, memory_room_bytes, threads_of
from supervisor.llama.settings import DEFAULT_CACHE_RAM_BYTES, Settings
from supervisor.llama.shape import Shape
from supervisor.model.quantity import format_size
from supervisor.model.reading import Missing

CONTEXTS: Final = (32768, 16384, 8192, 4096, 2048)
SMALLEST_ON_GPU: Final = 4096  # llama.cpp's --fit-ctx: below it layers go to the host instead
_WITHOUT_READING: Final = 2048
_CACHE_RAM_STEP: Final = 256 << 20
_CACHE_RAM_PART: Final = 4
_BLOCK: Final = 32  # of q8_0; llama.cpp refuses a head that is no whole number of them


class Wanted(Struct, frozen=True):
    """What is asked for; None is auto."""

    n_gpu_layers: int | None = None
    ctx: int | None = None  # for all slots together
    cache_type: str | None = None
    slots: int = 1
    mmproj_bytes: int = 0


class Choice(Struct, frozen=True):
    """Settings that fit, on `gpus` in the order of `settings.shares`; `notes` say what was assumed."""

    settings: Settings
    gpus: tuple[GpuRoom, ...]
    need: Need
    threads: int
    notes: tuple[str, ...]


class DoesNotFitError(ValueError):
    """No settings of a model fit what is free; the text says what is short."""


def choose_settings(model: Model, free: Room, wanted: Wanted) -> Choice:
    """Choose the settings that use the machine best and leave its reserves alone.

    In this order: the whole model on the roomiest GPU, else on all, with the longest context to 32,768 that
    fits, and q8_0 for the cache where f16 does not; the experts of the first layers on the host; as many
    layers as fit; none. A GPU whose free memory is not known counts as none. Raises DoesNotFitError, and
    ValueError for what is absurd.
    """
    notes = list(_unknown(free))
    gpus = [gpu for gpu in free.gpus if not isinstance(gpu_room_bytes(gpu, free), Missing)]
    gpus.sort(key=lambda gpu: _room(gpu, free), reverse=True)
    base = Settings(
        slots=wanted.slots, kv_unified=wanted.slots == 1, cache_ram_bytes=0, mmproj_bytes=wanted.mmproj_bytes
    )
    for settings, taken in _candidates(model, free, wanted, (base, gpus)):
        found = need(model, settings)
        if _short(found, taken, free) is None:
            filled = replace(settings, cache_ram_bytes=_cache_ram(found, free))
            if filled.cache_k != "f16" and wanted.cache_type is None:
                notes.append("the KV cache is q8_0: with f16 it does not fit")
            return Choice(filled, tuple(taken), need(model, filled), threads_of(free), tuple(notes))
    raise DoesNotFitError(_why(model, free, wanted, (base, gpus)))


def _candidates(
    model: Model, free: Room, wanted: Wanted, start: tuple[Settings, Sequence[GpuRoom]]
) -> Iterator[tuple[Settings, Sequence[GpuRoom]]]:
    """Yield settings from the best to the poorest, with the GPUs that they use."""
    base, gpus = start
    contexts = _contexts(model, free, wanted)
    groups = [gpus[:1], *([gpus] if len(gpus) > 1 else [])] if gpus else []
    on_gpu = [ctx for ctx in contexts if ctx >= SMALLEST_ON_GPU] or contexts[:1]
    if wanted.n_gpu_layers is None:
        whole = model.shape.layers + 1
        for taken in groups:
            for ctx, cache in _shapes(model, on_gpu, wanted):
                yield _with(base, whole, ctx, cache, shares=_shares(taken, free)), taken
        if groups:
            smallest = _with(
                base, whole, on_gpu[-1], wanted.cache_type or "f16", shares=_shares(groups[-1], free)
            )
            yield from _with_experts_apart(model, free, smallest, groups[-1])
            yield from _with_most_layers(model, free, smallest, groups[-1])
    elif wanted.n_gpu_layers > 0:
        for taken in groups:
            for ctx, cache in _shapes(model, contexts, wanted):
                yield _with(base, wanted.n_gpu_layers, ctx, cache, shares=_shares(taken, free)), taken
        return
    for ctx, cache in _shapes(
        model, [ctx for ctx in contexts if ctx <= SMALLEST_ON_GPU] or contexts[-1:], wanted
    ):
        yield _with(base, 0, ctx, cache, shares=()), ()


def _shapes(model: Model, contexts: Sequence[int], wanted: Wanted) -> Iterator[tuple[int, str]]:
    """Yield contexts and types of the cache: f16 for each, then q8_0 for the last where heads allow it."""
    if wanted.cache_type is not None:
        yield from ((ctx, wanted.cache_type) for ctx in contexts)
        return
    yield from ((ctx, "f16") for ctx in contexts)
    if takes_q8_0(model.shape):
        yield contexts[-1], "q8_0"


def takes_q8_0(shape: Shape) -> bool:
    """Say whether the heads of a model are whole blocks of q8_0, as llama.cpp wants them for a KV cache."""
    return not (shape.key_length % _BLOCK or shape.value_length % _BLOCK)


def _with(base: Settings, n_gpu_layers: int, ctx: int, cache: str, *, shares: tuple[float, ...]) -> Settings:
    return replace(base, n_gpu_layers=n_gpu_layers, ctx=ctx, cache_k=cache, cache_v=cache, shares=shares)


def _with_experts_apart(
    model: Model, free: Room, settings: Settings, taken: Sequence[GpuRoom]
) -> Iterator[tuple[Settings, Sequence[GpuRoom]]]:
    """Yield the settings with the fewest layers' experts on the host that fit the GPUs."""
    if model.shape.experts is None:
        return
    least = _first(
        model.shape.layers,
        lambda count: _fits_gpus(model, replace(settings, cpu_moe_layers=count), taken, free),
    )
    if least is not None:
        yield replace(settings, cpu_moe_layers=least), taken


def _with_most_layers(
    model: Model, free: Room, settings: Settings, taken: Sequence[GpuRoom]
) -> Iterator[tuple[Settings, Sequence[GpuRoom]]]:
    """Yield the settings with the most layers that fit the GPUs."""
    whole = model.shape.layers + 1
    left = _first(
        whole - 1,
        lambda count: _fits_gpus(model, replace(settings, n_gpu_layers=whole - count), taken, free),
    )
    if left is not None:
        yield replace(settings, n_gpu_layers=whole - left), taken


def _first(most: int, fits: Callable[[int], bool]) -> int | None:
    """Return the least number to `most` for which `fits`, which stays true from there on."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle + 1
    return low if fits(low) else None


def _fits_gpus(model: Model, settings: Settings, taken: Sequence[GpuRoom], free: Room) -> bool:
    found = need(model, settings)
    return all(
        device.total_bytes <= _room(gpu, free) for device, gpu in zip(found.devices, taken, strict=True)
    )


def _short(found: Need, taken: Sequence[GpuRoom], free: Room) -> str | None:
    """Say what is short; None where all fits. RAM that is not known is not judged."""
    shared = 0
    for device, gpu in zip(found.devices, taken, strict=True):
        room = _room(gpu, free)
        if device.total_bytes > room:
            return f"{format_size(device.total_bytes)} on {gpu.name}, which has {format_size(room)} to give"
        shared += device.total_bytes if gpu.unified else 0
    memory = memory_room_bytes(free)
    wanted = found.host.total_bytes + shared
    if not isinstance(memory, Missing) and wanted > memory:
        return f"{format_size(wanted)} of RAM, which has {format_size(memory)} to give"
    return None


def _why(model: Model, free: Room, wanted: Wanted, start: tuple[Settings, Sequence[GpuRoom]]) -> str:
    """Say of the poorest settings what they lack."""
    last: tuple[Settings, Sequence[GpuRoom]] | None = None
    for each in _candidates(model, free, wanted, start):
        last = each
    if last is None:
        return f"{wanted.n_gpu_layers} layers are wanted on a GPU, and none is known with memory to give"
    settings, taken = last
    short = _short(need(model, settings), taken, free)
    return f"with {settings.n_gpu_layers} layers on GPUs and a context of {settings.ctx} it needs {short}"


def _contexts(model: Model, free: Room, wanted: Wanted) -> list[int]:
    if wanted.ctx is not None:
        return [wanted.ctx]
    most = model.shape.context_length or CONTEXTS[-1]
    if isinstance(free.memory_free_bytes, Missing):
        return [min(most, _WITHOUT_READING)]
    return [ctx for ctx in CONTEXTS if ctx <= most] or [most]


def _cache_ram(found: Need, free: Room) -> int:
    """Return the prompt cache: a quarter of what is left of RAM, in steps of 256 MiB, 8 GiB at most."""
    memory = memory_room_bytes(free)
    if isinstance(memory, Missing):
        return 0
    left = max(0, memory - found.host.total_bytes)
    return min(DEFAULT_CACHE_RAM_BYTES, left // _CACHE_RAM_PART // _CACHE_RAM_STEP * _CACHE_RAM_STEP)


def _room(gpu: GpuRoom, free: Room) -> int:
    room = gpu_room_bytes(gpu, free)
    return 0 if isinstance(room, Missing) else room


def _shares(taken: Sequence[GpuRoom], free: Room) -> tuple[float, ...]:
    """Return the GPUs' parts of the layers: by what they have to give, in MiB."""
    return tuple(float(max(1, _room(gpu, free) >> 20)) for gpu in taken) if len(taken) > 1 else (1.0,)


def _unknown(free: Room) -> Iterator[str]:
    """Say what could not be read, and what is done about it."""
    if isinstance(free.memory_free_bytes, Missing):
        yield f"free memory is not known ({free.memory_free_bytes.why}): a short context and no prompt cache"
    if isinstance(free.cores, Missing):
        yield f"the cores are not known ({free.cores.why}): one thread"
    for gpu in free.gpus:
        room = gpu_room_bytes(gpu, free)
        if isinstance(room, Missing):
            yield f"GPU {gpu.index} is left out: its free memory is not known ({room.why})"
    if not free.gpus and free.gpu_missing is not None:
        yield f"no GPU: {free.gpu_missing}"
