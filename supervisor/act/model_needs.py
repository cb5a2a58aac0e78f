"""What a llama.cpp server will need, by its model and by how it is started. Reads files: for a thread."""

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from supervisor.act.made_rungs import made_rungs, server_reader
from supervisor.act.refusal import CannotLaunchError
from supervisor.llama.choices import cautious, choices
from supervisor.llama.fit import need
from supervisor.llama.gguf import GgufError
from supervisor.llama.model import Model, file_bytes, read_model
from supervisor.llama.server import Server
from supervisor.model.action import Reckon
from supervisor.model.fit import Fit, is_auto
from supervisor.model.news import Reckoned
from supervisor.model.rungs import Rungs

_KEPT: Final = 64  # models

Version = tuple[Path, int, int]  # size, and when it was last written, in ns


class Models:
    """Headers that were read, by path, size and time of the last change."""

    def __init__(self) -> None:
        """Know none."""
        self._known: dict[Version, Model] = {}

    def read(self, path: Path) -> Model:
        """Return a model; raises GgufError and OSError."""
        found = _regular(path)
        version = (path, found.st_size, found.st_mtime_ns)
        model = self._known.get(version)
        if model is None:
            model = read_model(path)
            while len(self._known) >= _KEPT:
                self._known.pop(next(iter(self._known)), None)
            self._known[version] = model
        return model


def _regular(path: Path) -> os.stat_result:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise GgufError(path, "it is no regular file")  # a FIFO would be waited for
    return found


def _size_of(mmproj: Path | None) -> int:
    if mmproj is None:
        return 0
    _regular(mmproj)
    return file_bytes(mmproj)


def reckoned(order: Reckon, read: Callable[[Path], Model]) -> Reckoned:
    """Reckon what a server needs, for each choice that there is; may take seconds."""
    try:
        names, server_with = _to_choose(order), server_reader(order)
        server = server_with(dict.fromkeys(names, 1))  # its files are the same whatever is chosen
        model = read(server.model)
        mmproj_bytes = _size_of(server.mmproj)
        values = choices(model.shape, names, gpus=len(order.shares))
        fits = tuple(
            _fit(model, _with_mmproj(server_with(chosen), mmproj_bytes), chosen) for chosen in values
        )
        is_made = not names and not order.plan.ladder and order.plan.makes_ladder
        rungs = made_rungs(order, model, _with_mmproj(server, mmproj_bytes)) if is_made else Rungs()
    except (ValueError, CannotLaunchError) as error:  # GgufError, NotReckonedError, TemplateError among them
        return unknown(order, str(error))
    except OSError as error:
        return unknown(order, f"cannot read {error.filename}: {error.strerror}")
    return Reckoned(order.worker, order.asked_s, fits, rungs=rungs)


def _to_choose(order: Reckon) -> tuple[str, ...]:
    return tuple(name for name, value in order.settings.items() if is_auto(name, value))


def unknown(order: Reckon, why: str) -> Reckoned:
    """Answer that it could not be reckoned, with what may be chosen all the same."""
    names = _to_choose(order)
    fits = cautious(names, why, gpus=len(order.shares)) if names else ()
    return Reckoned(order.worker, order.asked_s, fits, why)


def _with_mmproj(server: Server, size: int) -> Server:
    return replace(server, settings=replace(server.settings, mmproj_bytes=size))


def _fit(model: Model, server: Server, chosen: Mapping[str, int]) -> Fit:
    found = need(model, server.settings)
    host = found.host
    return Fit(
        chosen,
        memory_bytes=host.own_bytes - host.prompt_cache_bytes,
        mapped_bytes=host.total_bytes - host.own_bytes,
        prompt_cache_bytes=host.prompt_cache_bytes,
        is_cache_written=server.is_cache_ram_written,
        vram_bytes=tuple(device.total_bytes for device in found.devices),
    )
