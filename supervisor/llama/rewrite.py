"""A llama-server's command with other values: of its settings where it has them, else as new ones. Pure.

What was tried on llama-server 0.7.0: of a flag that is given twice the last one counts, with a warning where
both are spelled alike; a flag counts before its variable. So a value that is written is replaced where it
stands, and a flag that is not written is put at the end.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from supervisor.llama.model import Model
from supervisor.llama.rungs import slot_ctx
from supervisor.llama.settings import Settings
from supervisor.model.fit import LLAMA_SERVER
from supervisor.model.plan import Setting

_BRACES: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)


class _Argument(Struct, frozen=True):
    """What a setting is called here, and its flags; the last of them is the one that is added."""

    name: str
    flags: tuple[str, ...]


_ARGUMENTS: Final[Mapping[str, _Argument]] = {
    "ubatch": _Argument("ubatch", ("-ub", "--ubatch-size")),
    "cache_ram_bytes": _Argument("cache_ram", ("-cram", "--cache-ram")),
    "cache_k": _Argument("cache_type_k", ("-ctk", "--cache-type-k")),
    "cache_v": _Argument("cache_type_v", ("-ctv", "--cache-type-v")),
    "slots": _Argument("parallel", ("-np", "--parallel")),
    "ctx": _Argument("ctx", ("-c", "--ctx-size")),
    "cpu_moe_layers": _Argument("n_cpu_moe", ("-ncmoe", "--n-cpu-moe")),
    "n_gpu_layers": _Argument("n_gpu_layers", ("-ngl", "--gpu-layers", "--n-gpu-layers")),
}


class Rewritten(Struct, frozen=True):
    """A command with braces, all the settings that fill them, and what those that are new were before."""

    command: tuple[str, ...]
    settings: Mapping[str, Setting]
    was: Mapping[str, Setting]


def rewrite(
    command: Sequence[str], settings: Mapping[str, Setting], model: Model, old: Settings, new: Settings
) -> Rewritten | None:
    """Return the command that has a server run with `new` where it runs with `old`.

    None where a flag would have to be added to a command that does not name llama-server: a script may not
    pass it on.
    """
    words, filled, was = list(command), dict(settings), dict[str, Setting]()
    adds = any(word.rpartition("/")[2] == LLAMA_SERVER for word in command)
    for field, argument in _ARGUMENTS.items():
        value = _value(field, new, model)
        if getattr(old, field) == getattr(new, field):
            continue
        at = _last(words, argument.flags)
        name = None if at is None else _setting_at(words[at], settings)
        if at is None and not adds:
            return None
        if name is None:
            name = argument.name if argument.name not in settings else f"made_{argument.name}"
            was[name] = _value(field, old, model)
            if at is None:
                words += [argument.flags[-1], f"{{{name}}}"]
            else:
                words[at] = f"{{{name}}}"
        filled[name] = value
    return Rewritten(tuple(words), filled, was)


def _value(field: str, settings: Settings, model: Model) -> Setting:
    """Return the value of a setting as the server is told it."""
    if field == "cache_ram_bytes":
        return settings.cache_ram_bytes >> 20
    if field == "ctx":
        return slot_ctx(model, settings) * (1 if settings.kv_unified else settings.slots)
    if field == "n_gpu_layers":
        return min(settings.n_gpu_layers, model.shape.layers + 1)
    value: str | int = getattr(settings, field)
    return value


def _last(words: Sequence[str], flags: Sequence[str]) -> int | None:
    """Return where the value that counts stands."""
    found = [index + 1 for index, word in enumerate(words[:-1]) if word in flags]
    return max(found, default=None)


def _setting_at(word: str, settings: Mapping[str, Setting]) -> str | None:
    """Return the setting that alone makes up a word."""
    braces = _BRACES.fullmatch(word)
    return braces[1] if braces is not None and braces[1] in settings else None
