"""The header of one GGUF file: its metadata and where its tensors lie, checked against the file's size.

The format, little-endian: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. What llama.cpp refuses
(ggml/src/gguf.cpp) is refused here: version 1, nested arrays, a key or a tensor twice, names of 64 bytes and
more, more than four dimensions, tensors that do not follow one another.
"""

import json
import math
import os
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from supervisor.llama.ggml_types import TYPES
from supervisor.llama.gguf_cursor import Budget, Cursor, GgufError

_VERSIONS: Final = (2, 3)
_KEY_BYTES: Final = (1 << 16) - 1
_NAME_BYTES: Final = 63  # GGML_MAX_NAME is 64, with the zero
_KEPT_BYTES: Final = 256  # a longer key or string (a chat template, a license) is passed over
_KEPT_ITEMS: Final = 1024  # of an array: per-layer ones have 512 at most, llama.cpp's LLAMA_MAX_LAYERS
_MOST_KEPT_ITEMS: Final = 1 << 16  # over all arrays
_SHOWN: Final = 64  # characters of a name, in a message
_DIMENSIONS: Final = 4
_DEFAULT_ALIGNMENT: Final = 32
_STRING, _ARRAY = 8, 9
_LETTERS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

Number = int | float | bool


class Skipped(Struct, frozen=True):
    """An array that is not kept: strings, or too many items; only their number is."""

    count: int


Value = Number | str | tuple[Number, ...] | Skipped


class Tensor(Struct, frozen=True):
    """One tensor: `dims` with the row first, `size_bytes` without padding."""

    name: str
    type: int
    dims: tuple[int, ...]
    size_bytes: int


class Header(Struct, frozen=True):
    """What the header of one file says. Long strings and long arrays of the metadata are not kept."""

    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    file_bytes: int


def read_header(path: Path, budget: Budget) -> Header:
    """Read the header of one file, nothing of its tensors' data; raises GgufError."""
    try:
        # a FIFO would wait for its writer, without O_NONBLOCK
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise GgufError(path, error.strerror or str(error)) from None
    except ValueError as error:  # a zero byte in the path
        raise GgufError(path, str(error)) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise GgufError(path, "it is no regular file")
        return _header(Cursor(descriptor, path, budget))
    except OSError as error:
        raise GgufError(path, error.strerror or str(error)) from None
    finally:
        os.close(descriptor)


def shown(text: str) -> str:
    """Return a text out of the file as it can stand in a message: quoted, in ASCII, shortened."""
    return json.dumps(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _header(cursor: Cursor) -> Header:
    version = _version(cursor)
    tensor_count = cursor.u64()
    if (why := cursor.budget.pay_tensors(tensor_count)) is not None:
        raise cursor.wrong(why, 8)
    key_count = cursor.u64()
    if (why := cursor.budget.pay_keys(key_count)) is not None:
        raise cursor.wrong(why, 16)
    metadata = _metadata(cursor, key_count)
    alignment = _alignment(cursor, metadata)
    return Header(version, metadata, _tensors(cursor, tensor_count, alignment), cursor.file_bytes)


def _version(cursor: Cursor) -> int:
    if cursor.file_bytes == 0:
        raise cursor.wrong("it is empty")
    magic = cursor.take(4)
    if magic != b"GGUF":
        raise cursor.wrong(f"it starts with {magic!r}, not with b'GGUF'", 0)
    version = cursor.u32()
    if version in _VERSIONS:
        return version
    if version & 0xFFFF == 0:
        raise cursor.wrong("it was made for a big-endian machine", 4)
    raise cursor.wrong(f"it is GGUF version {version}, and 2 and 3 are known", 4)


def _metadata(cursor: Cursor, count: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    kept_items = 0
    for _ in range(count):
        start = cursor.at
        key = cursor.text(_KEY_BYTES, "a key")
        value = _value(cursor, shown(key))
        if key in metadata:
            raise cursor.wrong(f"it has the key {shown(key)} twice", start)
        if isinstance(value, tuple):
            kept_items += len(value)
            if kept_items > _MOST_KEPT_ITEMS:
                raise cursor.wrong(f"its short arrays have more than {_MOST_KEPT_ITEMS} items", start)
        if value is not None and len(key) <= _KEPT_BYTES:
            metadata[key] = value
    return metadata


def _value(cursor: Cursor, key: str) -> Value | None:
    """Read a value; None for a string too long to be kept."""
    start = cursor.at
    kind = cursor.u32()
    if kind in _LETTERS:
        return _numbers(cursor, kind, 1)[0]
    if kind == _STRING:
        length = cursor.u64()
        if length <= _KEPT_BYTES:
            return cursor.take(length).decode("utf-8", "replace")
        cursor.skip(length)
        return None
    if kind == _ARRAY:
        return _array(cursor, key)
    raise cursor.wrong(f"the value of {key} is of type {kind}, which GGUF does not have", start)


def _array(cursor: Cursor, key: str) -> tuple[Number, ...] | Skipped:
    start = cursor.at
    kind = cursor.u32()
    count = cursor.u64()
    if kind == _STRING:
        cursor.skip_strings(count)
        return Skipped(count)
    if kind == _ARRAY:
        raise cursor.wrong(f"the value of {key} is an array of arrays, which llama.cpp does not read", start)
    if kind not in _LETTERS:
        raise cursor.wrong(f"the items of {key} are of type {kind}, which GGUF does not have", start)
    if count <= _KEPT_ITEMS:
        return _numbers(cursor, kind, count)
    cursor.skip(count * struct.calcsize(f"<{_LETTERS[kind]}"))
    return Skipped(count)


def _numbers(cursor: Cursor, kind: int, count: int) -> tuple[Number, ...]:
    layout = f"<{count}{_LETTERS[kind]}"
    return struct.unpack(layout, cursor.take(struct.calcsize(layout)))


def _alignment(cursor: Cursor, metadata: Mapping[str, Value]) -> int:
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise GgufError(cursor.path, "its general.alignment is no power of two")
    return int(alignment)


def _tensors(cursor: Cursor, count: int, alignment: int) -> tuple[Tensor, ...]:
    found: list[Tensor] = []
    names: set[str] = set()
    expected = 0  # where the next tensor starts, from the start of the data
    for _ in range(count):
        start = cursor.at
        tensor, offset = _tensor(cursor)
        if tensor.name in names:
            raise cursor.wrong(f"it has the tensor {shown(tensor.name)} twice", start)
        if offset != expected:
            why = f"tensor {shown(tensor.name)} lies at {offset} of the data, and {expected} is expected"
            raise cursor.wrong(why, start)
        found.append(tensor)
        names.add(tensor.name)
        expected = _padded(offset + tensor.size_bytes, alignment)
    _within(cursor, found, alignment)
    return tuple(found)


def _within(cursor: Cursor, tensors: list[Tensor], alignment: int) -> None:
    """Raise GgufError for the first tensor that ends beyond the file."""
    end = cursor.at
    for tensor in tensors:
        end = _padded(end, alignment) + tensor.size_bytes
        if end > cursor.file_bytes:
            why = f"cut: tensor {shown(tensor.name)} ends at byte {end}, the file before it"
            raise cursor.wrong(why, cursor.file_bytes)


def _tensor(cursor: Cursor) -> tuple[Tensor, int]:
    """Read what is said of one tensor, and its offset in the data."""
    start = cursor.at
    name = cursor.text(_NAME_BYTES, "a tensor's name")
    dimensions = cursor.u32()
    if dimensions > _DIMENSIONS:
        raise cursor.wrong(f"tensor {shown(name)} has {dimensions} dimensions, and 4 are allowed", start)
    dims = tuple(cursor.u64() for _ in range(dimensions))
    kind = cursor.u32()
    offset = cursor.u64()
    known = TYPES.get(kind)
    if known is None:
        raise cursor.wrong(f"tensor {shown(name)} is of type {kind}, which ggml does not have", start)
    row = dims[0] if dims else 1
    if row % known.block:
        why = f"the rows of tensor {shown(name)} have {row} numbers, no whole blocks of {known.name}"
        raise cursor.wrong(why, start)
    size_bytes = math.prod(dims) // known.block * known.block_bytes
    if size_bytes > cursor.file_bytes:
        raise cursor.wrong(f"cut: tensor {shown(name)} is larger than the file", start)
    return Tensor(name, kind, dims, size_bytes), offset


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
