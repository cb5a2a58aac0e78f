"""Reads single values. Whoever calls turns a ValueError, whose text is for people, into a fault."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec.inspect as mi
from msgspec import Struct

from supervisor.config.fault import quoted
from supervisor.config.kinds import KINDS
from supervisor.config.tree import Node, Row, Scalar, Table

Bounded = mi.IntType | mi.FloatType
_FEW_LETTERS: Final = 2
_MANY_NAMES: Final = 200
_YES: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class Unwrapped(Struct, frozen=True):
    """A type without what is noted on it: the name of its kind, and its description."""

    type: mi.Type
    kind: str | None = None
    description: str | None = None


def unwrapped(wrapped: mi.Type) -> Unwrapped:
    """Return the type beneath the notes that msgspec's Meta puts on it."""
    found = Unwrapped(wrapped)
    while isinstance(found.type, mi.Metadata):
        noted: Any = found.type  # msgspec leaves the types of what the notes hold open
        notes: dict[str, str] = noted.extra or {}
        schema: dict[str, str] = noted.extra_json_schema or {}
        kind, description = notes.get("kind"), schema.get("description")
        found = Unwrapped(found.type.type, found.kind or kind, found.description or description)
    return found


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean NAME?` where one of `known` is close to `name`, else nothing."""
    names = list(known)
    if len(names) > _MANY_NAMES:  # each comparison takes some microseconds, and a file can ask for thousands
        names = [other for other in names if other[:2] == name[:2]][:_MANY_NAMES]
    begun = [other for other in names if len(name) > _FEW_LETTERS and other.startswith(name)]
    if not begun:
        from difflib import get_close_matches  # noqa: PLC0415 - nobody needs it whose file is right

        begun = get_close_matches(name[:64], names, n=1)
    return f"; did you mean {begun[0]}?" if begun else ""


def is_null(node: Node) -> bool:
    """Say whether a key was written without a value, or with null."""
    return isinstance(node, Scalar) and node.kind == "null"


def text_of(node: Node) -> str:
    """Return a value as it was written: `on` and `010` are text where text is wanted."""
    if not isinstance(node, Scalar):
        raise ValueError(f"must be a single value, not {noun_of(node)}")  # noqa: TRY004 - it is a fault of the file
    if node.kind == "null":
        raise ValueError('is empty; write "" for an empty text')
    if "\0" in node.text:
        raise ValueError("holds a NUL character, which no program can be given")
    return node.text


def plain_of(node: Node, choices: Sequence[mi.Type]) -> str | float | bool:
    """Return a value as the number or boolean that it looks like where `choices` has that, else as text."""
    text = text_of(node)
    kind = node.kind if isinstance(node, Scalar) else "text"
    allowed = {type(choice) for choice in choices}
    if kind == "bool" and mi.BoolType in allowed:
        return _YES[text.lower()]
    if kind == "int" and mi.IntType in allowed:
        return int(text)
    if kind == "float" and mi.FloatType in allowed:
        return float(text)
    return text


def choice_of(node: Node, values: Sequence[str]) -> str:
    """Return one of `values`."""
    text = text_of(node)
    if text in values:
        return text
    raise ValueError(f"must be one of {', '.join(values)}, not {quoted(text)}{nearest(text, values)}")


def bool_of(node: Node) -> bool:
    """Return a boolean."""
    value = _YES.get(node.text.lower()) if isinstance(node, Scalar) else None
    if value is None:
        raise ValueError(f"must be true or false, not {noun_of(node)}")
    return value


def number_of(node: Node, bounds: Bounded) -> float:
    """Return a number within bounds."""
    if isinstance(bounds, mi.IntType):
        if not isinstance(node, Scalar) or node.kind != "int":
            raise ValueError(f"must be a whole number, not {noun_of(node)}")
        return _bounded(int(node.text), bounds, str)
    if not isinstance(node, Scalar) or node.kind not in {"int", "float"}:
        raise ValueError(f"must be a number, not {noun_of(node)}")
    return _bounded(float(node.text), bounds, "{:g}".format)


def quantity_of(node: Node, bounds: Bounded, kind: str) -> float:
    """Return a quantity of a kind within bounds."""
    if is_null(node):
        raise ValueError("is empty: leave the key out for its default")
    value = KINDS[kind].parse(text_of(node))
    return _bounded(value, bounds, KINDS[kind].show)


def noun_of(node: Node) -> str:
    """Say what a node is. Text is not shown, since it may be a secret."""
    if isinstance(node, Table):
        return "a mapping"
    if isinstance(node, Row):
        return "a list"
    if node.kind == "null":
        return "empty"
    if node.kind != "text":
        return node.text
    return "text" if node.text else "an empty text"


def _bounded(value: float, bounds: Bounded, show: Callable[[float], str]) -> float:
    if bounds.gt is not None and value <= bounds.gt:
        raise ValueError(f"must be more than {show(bounds.gt)}, not {show(value)}")
    if bounds.ge is not None and value < bounds.ge:
        raise ValueError(f"must be at least {show(bounds.ge)}, not {show(value)}")
    if bounds.le is not None and value > bounds.le:
        raise ValueError(f"must be at most {show(bounds.le)}, not {show(value)}")
    return value
