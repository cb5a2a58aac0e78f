"""The metadata of a model, asked for by key; what is of a wrong kind or absurd raises GgufError."""

import math
from collections.abc import Mapping
from typing import Final, overload

from supervisor.llama.gguf import Gguf, GgufError
from supervisor.llama.gguf_header import Skipped, Value, shown

_MOST: Final = (1 << 31) - 1  # llama.cpp keeps sizes in 32 bits
_TOKENS: Final = "tokenizer.ggml.tokens"


class Keys:
    """The metadata, asked for by the part of a key that follows the architecture."""

    def __init__(self, model: Gguf) -> None:
        """Raise GgufError where the model does not name its architecture."""
        self._path = model.paths[0]
        self._metadata: Mapping[str, Value] = model.metadata
        architecture = model.metadata.get("general.architecture")
        if not isinstance(architecture, str):
            raise GgufError(self._path, "it has no general.architecture")
        self.architecture = architecture

    def wrong(self, key: str, why: str) -> GgufError:
        """Return the error for the value of a whole key."""
        return GgufError(self._path, f"its {shown(key)[1:-1]} {why}")

    def found(self, key: str) -> tuple[str, Value | None]:
        """Return the whole key and its value."""
        whole = key if key.startswith(("general.", "tokenizer.")) else f"{self.architecture}.{key}"
        return whole, self._metadata.get(whole)

    def needed(self, key: str, most: int = _MOST) -> int:
        """Return a size from 1 to `most`."""
        whole, value = self.found(key)
        if value is None:
            raise self.wrong(whole, "is missing")
        size = self._size(whole, value)
        if not 0 < size <= most:
            raise self.wrong(whole, f"is {size}, not from 1 to {most}")
        return size

    @overload
    def whole(self, key: str) -> int | None: ...
    @overload
    def whole(self, key: str, default: int) -> int: ...
    def whole(self, key: str, default: int | None = None) -> int | None:
        """Return a size, 0 and more, or the default where the key is missing."""
        whole, value = self.found(key)
        return default if value is None else self._size(whole, value)

    def real(self, key: str) -> float | None:
        """Return a finite number."""
        whole, value = self.found(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong(whole, "is no finite number")
        return float(value)

    def text(self, key: str) -> str | None:
        """Return a text."""
        whole, value = self.found(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(whole, "is no text")
        return value

    def by_layer(self, key: str, layers: int, default: tuple[int, ...]) -> tuple[int, ...]:
        """Return one number a layer, from an array of that many or from one number for all."""
        whole, value = self.found(key)
        if value is None:
            return default
        if not isinstance(value, tuple | Skipped):
            return (self._size(whole, value),) * layers
        if isinstance(value, Skipped) or len(value) != layers:
            count = value.count if isinstance(value, Skipped) else len(value)
            raise self.wrong(whole, f"has {count} items, and there are {layers} layers")
        return tuple(self._size(whole, item) for item in value)

    def vocabulary(self) -> int | None:
        """Return the number of tokens; the tokenizer's own list comes first, as it does in llama.cpp."""
        tokens = self.found(_TOKENS)[1]
        return tokens.count if isinstance(tokens, Skipped) else self.whole("vocab_size")

    def _size(self, key: str, value: Value) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(key, "is no whole number")
        if not 0 <= value <= _MOST:
            raise self.wrong(key, f"is {value}, not from 0 to {_MOST}")
        return value
