"""A llama.cpp server as it would be started: what its command comes to, and what may follow that."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from msgspec.structs import replace

from supervisor.act.environment_file import read_environment_file
from supervisor.llama.fit import need
from supervisor.llama.model import Model
from supervisor.llama.rewrite import rewrite
from supervisor.llama.rungs import SHORTAGES, Shortage, held_bytes, slot_ctx, smaller
from supervisor.llama.server import NotReckonedError, Server, read_server
from supervisor.llama.settings import Settings
from supervisor.model.action import Reckon
from supervisor.model.plan import Setting
from supervisor.model.rungs import MadeRung, Rungs
from supervisor.model.template import fill


def server_reader(order: Reckon) -> Callable[[Mapping[str, Setting]], Server]:
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


def made_rungs(order: Reckon, model: Model, server: Server) -> Rungs:
    """Return what may follow the settings of a server, by what runs out."""
    return Rungs(**dict(_rungs(order, model, server)))


def _rungs(order: Reckon, model: Model, server: Server) -> Iterator[tuple[str, MadeRung]]:
    settings = server.settings
    keep = server.embeds or settings.mmproj_bytes > 0
    for shortage in SHORTAGES:
        new = smaller(model, settings, shortage, keep_ubatch=keep)
        if new is not None and (made := _rung(order, model, server, new, shortage)) is not None:
            yield shortage, made
    if settings.n_gpu_layers:
        new = replace(settings, n_gpu_layers=0, shares=())
        if (made := _rung(order, model, server, new, "device")) is not None:
            yield "cpu", replace(made, on_cpu=True)


def _rung(order: Reckon, model: Model, server: Server, new: Settings, shortage: Shortage) -> MadeRung | None:
    """Return a command with new settings; None where it would not, as it is read, come to just these."""
    old = server.settings
    found = rewrite(order.plan.command, order.settings, model, old, new)
    if found is None:
        return None
    plan = replace(order.plan, command=found.command)
    try:
        read = server_reader(replace(order, plan=plan, settings=found.settings))({})
    except NotReckonedError:  # one setting fills two places, say
        return None
    if replace(read.settings, mmproj_bytes=old.mmproj_bytes) != new:
        return None
    return MadeRung(
        found.command,
        found.settings,
        found.was,
        held_bytes(need(model, old), shortage),
        held_bytes(need(model, new), shortage),
        (slot_ctx(model, old), slot_ctx(model, new)),
    )
