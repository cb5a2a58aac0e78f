"""Fills `{braces}` in commands, environment values and probe URLs; pure, shared by checking and by launching.

    {name}      the worker's setting `name`
    {name+N}    an integer setting plus N
    {replica}   1, 2, ... in a worker with replicas; 1 in one without
    {{  }}      literal braces

The settings `port` and `*_port` are those of the first replica: each further replica adds 1, so that
`--port {port}` with `port: 8081` gives 8081, 8082, ...; `{port+100}` gives 8181, 8182, ....
"""

import re
from collections.abc import Mapping
from typing import Final

from supervisor.model.plan import Setting

_PIECE: Final = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)(?:\+([0-9]{1,9}))?\}|[{}]", re.ASCII)
REPLICA: Final = "replica"
HIGHEST_PORT: Final = 65535


class TemplateError(ValueError):
    """A text cannot be filled; says why in words for people."""


def is_port(name: str) -> bool:
    """Say whether a setting of this name is a port, which moves by one with each replica."""
    return name == "port" or name.endswith("_port")


def fill(text: str, settings: Mapping[str, Setting], replica: int | None) -> str:
    """Return `text` with its braces filled for one replica (None: the worker has no replicas).

    Raises TemplateError for an unknown name, a sum with something that is no integer, and a lone brace.
    """
    return _PIECE.sub(lambda piece: _filled(piece, settings, 1 if replica is None else replica), text)


def names_in(text: str) -> frozenset[str]:
    """Return the names that the braces of `text` hold, well-formed ones only."""
    return frozenset(piece[1] for piece in _PIECE.finditer(text) if piece[1])


def written(value: Setting) -> str:
    """Write a setting as it appears in a command: booleans as `true` and `false`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _filled(piece: re.Match[str], settings: Mapping[str, Setting], replica: int) -> str:
    """Return what one piece, a pair of braces or a lone one, stands for."""
    if piece[0] in {"{{", "}}"}:
        return piece[0][0]
    name = piece[1]
    if name is None:
        raise TemplateError(
            f"a lone {piece[0]}: write {piece[0] * 2} for a literal brace, {{name}} for a setting"
        )
    if name != REPLICA and name not in settings:
        raise TemplateError(f"{piece[0]} names no setting")
    value = replica if name == REPLICA else settings[name]
    if piece[2] is None and not is_port(name):
        return written(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TemplateError(f"{piece[0]} needs an integer, and {name} is {written(value)!r}")
    total = value + int(piece[2] or 0)
    return str(_port(piece[0], total + replica - 1) if is_port(name) else total)


def _port(written_as: str, port: int) -> int:
    """Return the port; raise TemplateError where there is none of that number."""
    if not 0 < port <= HIGHEST_PORT:
        raise TemplateError(f"{written_as} comes to {port}, and ports end at {HIGHEST_PORT}")
    return port
