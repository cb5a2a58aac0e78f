"""A model as the reckoning sees it: its shape and its weights, without the file."""

from pathlib import Path

from msgspec import Struct

from supervisor.llama.gguf import read_gguf
from supervisor.llama.shape import Shape, shape_of
from supervisor.llama.weights import Weights, weights_of


class Model(Struct, frozen=True):
    """A model and how large its files are."""

    paths: tuple[Path, ...]
    shape: Shape
    weights: Weights
    file_bytes: int


def read_model(path: Path) -> Model:
    """Read a model by its only or its first file; raises GgufError.

    Takes milliseconds for a model of today and some seconds for a hostile file, so a loop leaves it to a
    thread.
    """
    found = read_gguf(path)
    shape = shape_of(found)
    return Model(found.paths, shape, weights_of(found.tensors, shape.layers), found.file_bytes)


def file_bytes(path: Path) -> int:
    """Return the size of one more file of a model (its mmproj), which has to be GGUF; raises GgufError."""
    return read_gguf(path).file_bytes
