"""The JSON schema of the file (draft 2020-12), from which editors complete and check it."""

from collections.abc import Mapping
from typing import Final

import msgspec.inspect as mi
from msgspec import NODEFAULT, Struct

from supervisor.config.check_worker import WORKER_NAME
from supervisor.config.kinds import KINDS
from supervisor.config.read import is_required, type_of
from supervisor.config.scalars import unwrapped
from supervisor.config.shape import ConfigShape

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_COMMAND: Final[Mapping[str, object]] = {
    "anyOf": [
        {"type": "array", "items": {"type": ["string", "number"]}, "minItems": 1},
        {"type": "string", "minLength": 1},
    ]
}
_SCALAR: Final = [
    "string",
    "number",
    "boolean",
]  # text is taken as it is written, so that 8081 and on need no quotes


def schema() -> dict[str, object]:
    """Return the schema of the whole file."""
    definitions: dict[str, object] = {}
    root = _struct(type_of(ConfigShape), definitions)
    return {"$schema": _DIALECT, "title": "gpu-supervisor", **root, "$defs": definitions}


def _of(kind: mi.Type, definitions: dict[str, object]) -> dict[str, object]:
    """Return the schema of one type; structs are defined once, by name."""
    found = unwrapped(kind)
    notes: dict[str, object] = {} if found.description is None else {"description": found.description}
    if found.kind == "command":
        return {**notes, **_COMMAND}
    if found.kind is not None:
        return {**notes, **KINDS[found.kind].schema}
    return {**notes, **_plain(found.type, definitions)}


def _plain(kind: mi.Type, definitions: dict[str, object]) -> dict[str, object]:
    match kind:
        case mi.UnionType():
            return {"anyOf": [_of(choice, definitions) for choice in kind.types]}
        case mi.StructType():
            name = kind.cls.__name__.removesuffix("Shape")
            if name not in definitions:
                definitions[name] = {}
                definitions[name] = _struct(kind, definitions)
            return {"$ref": f"#/$defs/{name}"}
        case mi.DictType():
            return _mapping(kind, definitions)
        case mi.VarTupleType():
            return {"type": "array", "items": _of(kind.item_type, definitions)}
        case mi.LiteralType():
            return {"enum": list(kind.values)}
        case mi.NoneType():
            return {"type": "null"}
        case mi.BoolType():
            return {"type": "boolean"}
        case mi.IntType() | mi.FloatType():
            return _number(kind)
        case _:
            return {"type": _SCALAR}


def _mapping(kind: mi.DictType, definitions: dict[str, object]) -> dict[str, object]:
    """Return the schema of a mapping; that of the workers says what a name may be."""
    found: dict[str, object] = {"type": "object", "additionalProperties": _of(kind.value_type, definitions)}
    if isinstance(kind.value_type, mi.StructType):
        found["propertyNames"] = {"pattern": f"^{WORKER_NAME.pattern}$"}
    return found


def _number(kind: mi.IntType | mi.FloatType) -> dict[str, object]:
    limits = {"exclusiveMinimum": kind.gt, "minimum": kind.ge, "maximum": kind.le}
    given: dict[str, object] = {name: limit for name, limit in limits.items() if limit is not None}
    return {"type": "integer" if isinstance(kind, mi.IntType) else "number", **given}


def _struct(kind: mi.StructType, definitions: dict[str, object]) -> dict[str, object]:
    properties: dict[str, object] = {}
    required: list[str] = []
    for field in kind.fields:
        found = _of(field.type, definitions)
        if is_required(field):
            required.append(field.encode_name)
        elif not isinstance(field.default, Struct) and field.default not in (NODEFAULT, ()):
            found["default"] = _written_default(field)
        properties[field.encode_name] = found
    described: dict[str, object] = {"description": kind.cls.__doc__ or "", "type": "object"}
    if required:
        described["required"] = required
    return {**described, "properties": properties, "additionalProperties": False}


def _written_default(field: mi.Field) -> object:
    """Return a field's default as the file would hold it: `2s` and not 2.0."""
    default: object = field.default
    kind = unwrapped(field.type).kind
    if kind is not None and kind in KINDS and isinstance(default, int | float):
        return KINDS[kind].show(default)
    return default
