"""What a llama.cpp server will need, by its model and by how it is started. Reads files: for a thread."""

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from supervisor.act.environment_file import read_environment_file
from supervisor.act.refusal import CannotLaunchError
from supervisor.llama.choices import cautious, choices
from supervisor.llama.fit import need
from supervisor.llama.gguf import GgufError
from supervisor.llama.model import Model, file_bytes, read_model
from supervisor.llama.server import Server, read_server
from supervisor.model.action import Reckon
from supervisor.model.fit import Fit, is_auto
from supervisor.model.news import Reckoned
from supervisor.model.plan import Setting
from supervisor.model.template import fill

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
        names, server_with = _to_choose(order), _reader(order)
        server = server_with(dict.fromkeys(names, 1))  # its files are the same whatever is chosen
        model = read(server.model)
        mmproj_bytes = _size_of(server.mmproj)
        values = choices(model.shape, names, gpus=len(order.shares))
        fits = tuple(_fit(model, server_with(chosen), mmproj_bytes, chosen) for chosen in values)
    except (ValueError, CannotLaunchError) as error:  # GgufError, NotReckonedError, TemplateError among them
        return unknown(order, str(error))
    except OSError as error:
        return unknown(order, f"cannot read {error.filename}: {error.strerror}")
    return Reckoned(order.worker, order.asked_s, fits)


def _to_choose(order: Reckon) -> tuple[str, ...]:
    return tuple(name for name, value in order.settings.items() if is_auto(name, value))


def unknown(order: Reckon, why: str) -> Reckoned:
    """Answer that it could not be reckoned, with what may be chosen all the same."""
    names = _to_choose(order)
    fits = cautious(names, why, gpus=len(order.shares)) if names else ()
    return Reckoned(order.worker, order.asked_s, fits, why)


def _reader(order: Reckon) -> Callable[[Mapping[str, Setting]], Server]:
    """Return what tells how the server is started with given values for what is chosen."""
    plan = order.plan
    file = plan.environment_file
    secrets = {} if file is None else read_environment_file(Path(file))

    def read(chosen: Mapping[str, Setting]) -> Server:
        settings = {**order.settings, **chosen}
        command = [fill(word, settings, plan.replica) for word in plan.command]
        written = {name: fill(value, settings, plan.replica) for name, value in plan.environment.items()}
        return read_server(command, written | secrets, Path(plan.directory or os.curdir), order.shares)

    return read


def _fit(model: Model, server: Server, mmproj_bytes: int, chosen: Mapping[str, int]) -> Fit:
    found = need(model, replace(server.settings, mmproj_bytes=mmproj_bytes))
    host = found.host
    return Fit(
        chosen,
        memory_bytes=host.own_bytes,
        mapped_bytes=host.total_bytes - host.own_bytes,
        vram_bytes=tuple(device.total_bytes for device in found.devices),
    )
