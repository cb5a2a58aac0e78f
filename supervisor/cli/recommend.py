"""`recommend`: this machine's resources and llama.cpp settings for it; needs no daemon and no root."""

import asyncio
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

from supervisor.cli.command import Command, CommandError, Exit
from supervisor.cli.fit_params import Shown, ask_fit_params
from supervisor.cli.recommend_json import document, first_document
from supervisor.cli.recommend_text import first_text, text
from supervisor.llama.first_start import first_start
from supervisor.llama.gguf import GgufError
from supervisor.llama.model import Model, file_bytes, read_model
from supervisor.llama.recommend import Choice, Wanted, choose_settings
from supervisor.llama.room import GpuRoom, Room
from supervisor.llama.settings import CACHE_TYPES
from supervisor.llama.stanza import first_stanza, stanza
from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuSample, HostSample
from supervisor.sense.confines import Confines, read_confines
from supervisor.sense.gpu.sensor import GpuSensor
from supervisor.sense.host import HostSensor

_GPUS_WITHIN_S: Final = 20.0  # a driver that no one keeps loaded takes a second a GPU
_MOST_SLOTS: Final = 256  # LLAMA_MAX_SEQ
_MOST_CTX: Final = 1 << 26


def run(arguments: Namespace) -> int:
    """Print the machine, the settings and, with a model, what they need."""
    chosen: Path | None = arguments.model
    if chosen is None and (asked := _without_model(arguments)):
        raise CommandError(f"cannot recommend: {asked} needs --model", Exit.USAGE)
    model = None if chosen is None else _read(chosen)
    mmproj_bytes = 0 if arguments.mmproj is None else _size(arguments.mmproj)
    free = asyncio.run(_free())
    if model is None or chosen is None:
        start = first_start(free)
        worker = first_stanza(start)
        shown = first_document(free, start, worker) if arguments.json else first_text(free, start, worker)
    else:
        choice = _choose(model, free, arguments, mmproj_bytes)
        worker = stanza(chosen.absolute(), choice)
        written = document if arguments.json else text
        shown = written(Shown(free, model, choice, worker, ask_fit_params(chosen.absolute(), choice)))
    print(shown)
    return Exit.DONE


def room_of(host: HostSample, confines: Confines, gpus: tuple[GpuSample, ...], missing: str | None) -> Room:
    """Put together what was read: memory is the least of MemAvailable and what the cgroups leave."""
    total, free = host.memory_total_bytes, host.memory_available_bytes
    if confines.memory_limit_bytes is not None and not isinstance(total, Missing):
        total = min(total, confines.memory_limit_bytes)
    if confines.memory_left_bytes is not None and not isinstance(free, Missing):
        free = min(free, confines.memory_left_bytes)
    return Room(total, free, confines.cores, tuple(map(_gpu_room, gpus)), missing)


def _gpu_room(gpu: GpuSample) -> GpuRoom:
    total, used = gpu.memory_total_bytes, gpu.memory_used_bytes
    free: int | Missing
    if isinstance(total, Missing):
        free = total
    elif isinstance(used, Missing):
        free = used
    else:
        free = max(0, total - used)
    return GpuRoom(gpu.uuid, gpu.index, gpu.name, total, free, gpu.unified)


async def _free() -> Room:
    told = asyncio.Event()
    sensor = GpuSensor(tell=told.set)
    host = HostSensor()
    try:
        await sensor.start()
        missing: str | None = None
        try:
            await asyncio.wait_for(told.wait(), _GPUS_WITHIN_S)
        except TimeoutError:
            missing = f"the NVIDIA driver did not answer within {_GPUS_WITHIN_S:g} s"
        return room_of(
            host.read(time.monotonic()), read_confines(), sensor.gpus(), sensor.missing() or missing
        )
    finally:
        host.close()
        await sensor.close()


def _read(path: Path) -> Model:
    try:
        return read_model(path)
    except GgufError as error:
        raise CommandError(str(error)) from None


def _size(path: Path) -> int:
    try:
        return file_bytes(path)
    except GgufError as error:
        raise CommandError(str(error)) from None


def _choose(model: Model, free: Room, arguments: Namespace, mmproj_bytes: int) -> Choice:
    wanted = Wanted(
        n_gpu_layers=arguments.n_gpu_layers,
        ctx=arguments.ctx,
        cache_type=arguments.cache_type,
        slots=1 if arguments.parallel is None else arguments.parallel,
        mmproj_bytes=mmproj_bytes,
    )
    try:
        return choose_settings(model, free, wanted)
    except ValueError as error:
        raise CommandError(f"cannot recommend settings for {arguments.model}: {error}") from None


def _without_model(arguments: Namespace) -> str | None:
    """Return an option that says nothing without a model."""
    options = ("ctx", "n_gpu_layers", "parallel", "cache_type", "mmproj")
    return next(
        (f"--{name.replace('_', '-')}" for name in options if getattr(arguments, name) is not None), None
    )


def _bounded(text: str, least: int, most: int) -> int:
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(most)) else least - 1
    if not least <= value <= most:
        raise ValueError
    return value


def ctx_size(text: str) -> int:
    """Read a context; raises ValueError."""
    return _bounded(text, 1, _MOST_CTX)


def layer_count(text: str) -> int:
    """Read a number of layers; raises ValueError."""
    return _bounded(text, 0, 9999)


def slot_count(text: str) -> int:
    """Read a number of slots; raises ValueError."""
    return _bounded(text, 1, _MOST_SLOTS)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--model", metavar="F.gguf", type=Path, help="the model; the first file of a split one"
    )
    parser.add_argument("--ctx", metavar="N", type=ctx_size, help="tokens of context, for all slots together")
    parser.add_argument(
        "--parallel", metavar="N", type=slot_count, help="slots; the context is shared out (default: 1)"
    )
    parser.add_argument(
        "--n-gpu-layers", metavar="N", type=layer_count, help="layers on GPUs (default: what fits)"
    )
    parser.add_argument("--cache-type", metavar="TYPE", choices=CACHE_TYPES, help="the type of the KV cache")
    parser.add_argument(
        "--mmproj", metavar="F.gguf", type=Path, help="the projector of a model that sees or hears"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")


COMMANDS: Final = (
    Command(
        "recommend",
        "show this machine's resources and llama.cpp settings for it; with a model, what it needs",
        "gpu-supervisor recommend --model /models/chat.gguf --ctx 8192",
        _arguments,
        run,
    ),
)
