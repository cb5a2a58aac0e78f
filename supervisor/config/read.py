"""Reads a tree into the shapes of the file, gathering every fault on the way."""

import functools
import shlex
from typing import Final, TypeVar

import msgspec.inspect as mi
from msgspec import NODEFAULT, Struct

from supervisor.config.fault import Path, Report
from supervisor.config.scalars import (
    bool_of,
    choice_of,
    is_null,
    nearest,
    noun_of,
    number_of,
    plain_of,
    quantity_of,
    text_of,
    unwrapped,
)
from supervisor.config.tree import Node, Row, Table

_Shape = TypeVar("_Shape", bound=Struct)


class _Unread:
    """Stands for a value that could not be read; its fault is told already."""


_UNREAD: Final = _Unread()
_TEXT: Final = mi.StrType()


@functools.cache
def type_of(shape: type[Struct]) -> mi.StructType:
    """Return what msgspec knows of a shape."""
    known = mi.type_info(shape)
    if not isinstance(known, mi.StructType):
        raise TypeError(f"{shape} is no shape")
    return known


def is_required(field: mi.Field) -> bool:
    """Say whether a key must be written."""
    return field.default is NODEFAULT and field.default_factory is NODEFAULT


class Reader:
    """Reads nodes by their type. What cannot be read keeps its default, so that later checks stay quiet."""

    def __init__(self, report: Report) -> None:
        """Put every fault into `report`."""
        self._report = report

    def read(self, node: Node, shape: type[_Shape], path: Path) -> _Shape:
        """Return the shape that `node` holds; its faults are in the report."""
        value = self._value(node, type_of(shape), path)
        return value if isinstance(value, shape) else shape()

    def _value(self, node: Node, wrapped: mi.Type, path: Path) -> object:
        found = unwrapped(wrapped)
        try:
            if found.kind == "command":
                return self._command(node, path)
            if found.kind is not None and isinstance(found.type, mi.IntType | mi.FloatType):
                return quantity_of(node, found.type, found.kind)
            return self._typed(node, found.type, path)
        except ValueError as error:
            self._report.fault(path, str(error), node=node)
            return _UNREAD

    def _typed(self, node: Node, kind: mi.Type, path: Path) -> object:
        match kind:
            case mi.UnionType():
                return self._union(node, kind, path)
            case mi.StructType():
                return self._struct(_table(node, "a mapping of keys"), kind, path)
            case mi.DictType():
                return self._mapping(_table(node, "a mapping of names to values"), kind, path)
            case mi.VarTupleType():
                return self._list(node, kind, path)
            case mi.LiteralType():
                return choice_of(node, [str(value) for value in kind.values])
            case mi.BoolType():
                return bool_of(node)
            case mi.IntType() | mi.FloatType():
                return number_of(node, kind)
            case mi.StrType():
                return text_of(node)
            case _:
                raise TypeError(f"a shape holds a type that cannot be read: {kind}")

    def _struct(self, table: Table, kind: mi.StructType, path: Path) -> object:
        known = {field.encode_name: field for field in kind.fields}
        values: dict[str, object] = {}
        for key, entry in table.entries.items():
            at = self._saw(path, key, entry.line)
            if key not in known:
                self._report.fault(at, f"unknown key{nearest(key, known)}", node=entry)
                continue
            value = self._value(entry.node, known[key].type, at)
            if not isinstance(value, _Unread):
                values[known[key].name] = value
        lacking = [name for name, field in known.items() if is_required(field) and field.name not in values]
        for name in lacking:
            if not self._report.bad(*path, name):
                self._report.fault((*path, name), "is missing", line=table.line, node=table)
        return _UNREAD if lacking else kind.cls(**values)

    def _mapping(self, table: Table, kind: mi.DictType, path: Path) -> object:
        read = {
            key: self._value(entry.node, kind.value_type, self._saw(path, key, entry.line))
            for key, entry in table.entries.items()
        }
        return {key: value for key, value in read.items() if not isinstance(value, _Unread)}

    def _list(self, node: Node, kind: mi.VarTupleType, path: Path) -> object:
        if is_null(node):
            return ()
        if not isinstance(node, Row):
            raise ValueError(f"must be a list, not {noun_of(node)}")  # noqa: TRY004 - it is a fault of the file
        read = [
            self._value(item, kind.item_type, self._saw(path, index, item.line))
            for index, item in enumerate(node.items)
        ]
        return tuple(value for value in read if not isinstance(value, _Unread))

    def _union(self, node: Node, kind: mi.UnionType, path: Path) -> object:
        if is_null(node) and kind.includes_none:
            return None
        choices = [choice for choice in kind.types if not isinstance(choice, mi.NoneType)]
        if len(choices) == 1:
            return self._value(node, choices[0], path)
        lists = [choice for choice in choices if isinstance(choice, mi.VarTupleType)]
        if isinstance(node, Row) and lists:
            return self._list(node, lists[0], path)
        return plain_of(node, choices)

    def _command(self, node: Node, path: Path) -> object:
        """Return the words of a command; one string is split as a shell would."""
        if isinstance(node, Row):
            words = [
                self._value(item, _TEXT, self._saw(path, index, item.line))
                for index, item in enumerate(node.items)
            ]
            return tuple(word for word in words if isinstance(word, str))
        text = text_of(node)
        try:
            return tuple(shlex.split(text))
        except ValueError as error:
            raise ValueError(f"cannot be split as a shell would: {str(error).lower()}") from error

    def _saw(self, path: Path, key: str | int, line: int) -> Path:
        at = (*path, key)
        self._report.saw(at, line)
        return at


def _table(node: Node, noun: str) -> Table:
    """Return the mapping; one that is written but empty (null) holds nothing."""
    if isinstance(node, Table):
        return node
    if is_null(node):
        return Table(node.line)
    raise ValueError(f"must be {noun}, not {noun_of(node)}")
