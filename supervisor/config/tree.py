"""The file as a plain tree, in which every value knows its line."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

from msgspec import Struct


class Scalar(Struct, frozen=True):
    """One value as it was written. Numbers and booleans are text to whom wants text: `on` stays `on`."""

    line: int
    text: str
    kind: Literal["text", "null", "bool", "int", "float"] = "text"


class Row(Struct, frozen=True):
    """A list."""

    line: int
    items: tuple["Node", ...] = ()


class Entry(Struct, frozen=True):
    """One key's value; `line` is that of the key."""

    line: int
    node: "Node"


class Table(Struct, frozen=True):
    """A mapping; merge keys are already merged in."""

    line: int
    entries: Mapping[str, Entry] = {}


Node = Scalar | Row | Table
Written: TypeAlias = "str | Mapping[str, Written]"  # a tree as our own code writes one


def tree_of(keys: Written, line: int) -> Node:
    """Return the tree of what is written in our own code, every node of it on `line`."""
    if isinstance(keys, str):
        return Scalar(line, keys)
    return Table(line, {key: Entry(line, tree_of(value, line)) for key, value in keys.items()})
