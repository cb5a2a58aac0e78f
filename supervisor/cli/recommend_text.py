"""What `recommend` prints for people."""

from collections.abc import Iterable, Iterator
from typing import Final

from supervisor.cli import figures
from supervisor.cli.fit_params import Second, Shown
from supervisor.cli.terminal import plain
from supervisor.llama.first_start import FirstStart
from supervisor.llama.fit import DeviceNeed, HostNeed
from supervisor.llama.fit_params import PROGRAM
from supervisor.llama.model import Model
from supervisor.llama.recommend import Choice
from supervisor.llama.room import Room, memory_reserve_bytes
from supervisor.model.fit import GPU_RESERVE_BYTES
from supervisor.model.reading import Missing

_PARTS: Final = (
    ("weights", "weights_bytes"),
    ("KV cache", "kv_bytes"),
    ("recurrent state", "state_bytes"),
    ("compute buffer", "compute_bytes"),
    ("weights in passing", "staging_bytes"),
    ("results", "output_bytes"),
    ("mmproj", "mmproj_bytes"),
    ("prompt cache", "prompt_cache_bytes"),
    ("CUDA context", "context_bytes"),
    ("process", "process_bytes"),
)

_SECOND_PARTS: Final = (
    ("model", "model_bytes"),
    ("context", "context_bytes"),
    ("compute", "compute_bytes"),
)


def text(shown: Shown) -> str:
    """Return the machine, the settings, the reckoning, llama.cpp's own, and the worker."""
    choice = shown.choice
    head = [*_machine(shown.free), "", *_chosen(shown.model, choice), "", *_reckoning(choice)]
    return "\n".join([*head, *_second(shown.second), *_notes(choice), "", shown.worker])


def first_text(free: Room, start: FirstStart, worker: str) -> str:
    """Return the machine and the settings for a first start."""
    settings = (
        ("n_gpu_layers", start.n_gpu_layers),
        ("ctx", start.ctx),
        ("batch", start.batch),
        ("threads", start.threads),
        ("mmap", "on"),
        ("mlock", "off"),
        ("cache-ram", figures.size(start.cache_ram_bytes)),
    )
    lines = [*_machine(free), "", "settings for a first start (name a --model to have them reckoned)"]
    return "\n".join([*lines, *_listed(settings), "", worker])


def _machine(free: Room) -> Iterator[str]:
    yield "machine"
    total, left, cores = free.memory_total_bytes, free.memory_free_bytes, free.cores
    kept = figures.size(memory_reserve_bytes(free))
    rows: list[tuple[str, object]] = [
        ("memory", f"{_size(left)} free of {_size(total)}, {kept} kept back"),
        ("cores", f"unknown: {cores.why}" if isinstance(cores, Missing) else f"{cores:g}"),
    ]
    for gpu in free.gpus:
        kept = figures.size(GPU_RESERVE_BYTES)
        shown = f"{_size(gpu.free_bytes)} free of {_size(gpu.total_bytes)}, {kept} kept back"
        rows.append(
            (f"GPU {gpu.index}", f"{plain(gpu.name)}: {'shares the memory' if gpu.unified else shown}")
        )
    if not free.gpus:
        rows.append(("GPU", f"none: {free.gpu_missing or 'none is listed'}"))
    yield from _listed(rows)


def _chosen(model: Model, choice: Choice) -> Iterator[str]:
    settings, shape = choice.settings, model.shape
    weights = figures.size(model.weights.total_bytes)
    kind = f"{plain(shape.architecture)}, {shape.layers} layers, {weights} of weights"
    yield f"settings for {plain(model.paths[0].name)} ({kind})"
    on_gpus = min(settings.n_gpu_layers, shape.layers + 1)
    yield from _listed(
        (
            (
                "n_gpu_layers",
                f"{settings.n_gpu_layers} ({on_gpus} of {shape.layers + 1}, the output counted)",
            ),
            *((("cpu_moe_layers", settings.cpu_moe_layers),) if settings.cpu_moe_layers else ()),
            ("ctx", settings.ctx),
            ("batch, ubatch", f"{settings.batch}, {settings.ubatch}"),
            ("threads", choice.threads),
            ("KV cache type", settings.cache_k),
            ("parallel", settings.slots),
            ("mmap, mlock", "on, off"),
            ("cache-ram", figures.size(settings.cache_ram_bytes)),
        )
    )


def _reckoning(choice: Choice) -> Iterator[str]:
    """Yield a table: a row for each part, a column for the host and each GPU."""
    columns: list[tuple[str, HostNeed | DeviceNeed]] = [("host", choice.need.host)]
    columns += [
        (f"GPU {gpu.index}", each) for gpu, each in zip(choice.gpus, choice.need.devices, strict=True)
    ]
    yield "need" + " " * 18 + "".join(f"{name:>10}" for name, _ in columns)
    for name, field in (*_PARTS, ("in all", "total_bytes")):
        sizes: list[int] = [getattr(each, field, 0) for _, each in columns]
        if any(sizes):
            yield f"  {name:<20}" + "".join(f"{figures.size(size) if size else '':>10}" for size in sizes)


def _second(found: Second | None) -> Iterator[str]:
    """Yield what llama-fit-params says, in columns of the same width."""
    if found is None:
        return
    yield ""
    if found.missing is not None:
        yield f"{PROGRAM}: {plain(found.missing)}"
        return
    columns = [*((found.host,) if found.host else ()), *found.devices]
    yield f"{PROGRAM:<22}" + "".join(f"{plain(one.device):>10}" for one in columns)
    for name, field in _SECOND_PARTS:
        yield f"  {name:<20}" + "".join(f"{figures.size(getattr(one, field)):>10}" for one in columns)


def _notes(choice: Choice) -> Iterator[str]:
    if choice.notes:
        yield ""
        yield from (f"note: {plain(note)}" for note in choice.notes)


def _listed(rows: Iterable[tuple[str, object]]) -> Iterator[str]:
    return (f"  {name:<20}  {value}" for name, value in rows)


def _size(size: int | Missing) -> str:
    return f"unknown ({size.why})" if isinstance(size, Missing) else figures.size(size)
