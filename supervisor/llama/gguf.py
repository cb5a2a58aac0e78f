"""A model in GGUF, whole or split into files: what its headers say, read without weights and without trust.

Reading takes some milliseconds for a model of today, a few seconds for the worst that a file can hold, and
less than 64 MiB.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from supervisor.llama.gguf_cursor import Budget, GgufError
from supervisor.llama.gguf_header import Header, Tensor, Value, read_header, shown

__all__ = ["Gguf", "GgufError", "Tensor", "read_gguf"]

_SPLIT: Final = re.compile(r"(.*)-([0-9]{5})-of-([0-9]{5})\.gguf", re.DOTALL)
_MOST_FILES: Final = 1000  # llama.cpp's names have room for 99,999; a model of 1 TB in files of 2 GB has 500


class Gguf(Struct, frozen=True):
    """A model: the metadata of its first file and the tensors of all, in the order of the files."""

    paths: tuple[Path, ...]
    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    file_bytes: int  # of all files


def read_gguf(path: Path) -> Gguf:
    """Read the headers of a model by its only or its first file.

    Raises GgufError when a file is missing, cut, no GGUF, or holds what llama.cpp would refuse.
    """
    budget = Budget()
    first = read_header(path, budget)
    count = _whole(path, first, "split.count", 1)
    if count <= 1:
        return Gguf((path,), first.version, first.metadata, first.tensors, first.file_bytes)
    paths = _names(path, count)
    tensors = list(first.tensors)
    file_bytes = first.file_bytes
    for number, other in enumerate(paths[1:], 1):
        header = read_header(other, budget)
        if _whole(other, header, "split.no", -1) != number:
            raise GgufError(other, f"its split.no is not {number}: it is another part of the model")
        if _whole(other, header, "split.count", 1) != count:
            raise GgufError(other, f"its split.count is not {count}, as in {path.name}")
        tensors += header.tensors
        file_bytes += header.file_bytes
    return Gguf(paths, first.version, first.metadata, _together(path, first, tensors), file_bytes)


def _names(path: Path, count: int) -> tuple[Path, ...]:
    """Return the paths of all files of a split model, given its first."""
    if count > _MOST_FILES:
        raise GgufError(path, f"it is split into {count} files, and {_MOST_FILES} are allowed")
    name = _SPLIT.fullmatch(path.name)
    if name is None or int(name[3]) != count:
        raise GgufError(
            path, f"it is one of {count} files, and its name does not end in -NNNNN-of-{count:05}.gguf"
        )
    if int(name[2]) != 1:
        raise GgufError(path, f"it is file {int(name[2])} of {count}: a model is named by its first")
    return tuple(
        path.with_name(f"{name[1]}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)
    )


def _together(path: Path, first: Header, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    """Return the tensors of all files, checked: none twice, none missing."""
    if _whole(path, first, "split.no", 0) != 0:
        raise GgufError(path, "its split.no is not 0: it is not the first part of the model")
    seen: set[str] = set()
    for tensor in tensors:
        if tensor.name in seen:
            raise GgufError(path, f"two of its files have the tensor {shown(tensor.name)}")
        seen.add(tensor.name)
    expected = _whole(path, first, "split.tensors.count", len(tensors))
    if expected != len(tensors):
        raise GgufError(
            path, f"its files have {len(tensors)} tensors, and its split.tensors.count is {expected}"
        )
    return tuple(tensors)


def _whole(path: Path, header: Header, key: str, default: int) -> int:
    value = header.metadata.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise GgufError(path, f"its {key} is no whole number")
    return value
