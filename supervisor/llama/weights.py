"""Where the weights of a model lie: in its layers, its embedding, its output."""

import re
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from supervisor.llama.gguf import Tensor

_LAYER: Final = re.compile(r"blk\.([0-9]{1,4})\..*", re.DOTALL)
# what `--n-cpu-moe` and `-ot exps=CPU` put on the host; shared experts (shexp) stay
_EXPERTS: Final = re.compile(r"blk\.[0-9]{1,4}\.ffn_(?:up|down|gate|gate_up)_(?:ch)?exps\..*", re.DOTALL)


class LayerWeights(Struct, frozen=True):
    """One layer; `expert_bytes` are a part of `size_bytes`, and `largest_bytes` is its largest tensor."""

    size_bytes: int = 0
    expert_bytes: int = 0
    largest_bytes: int = 0


class Weights(Struct, frozen=True):
    """The bytes of a model's tensors, without padding.

    `output_bytes` is output_norm, output and their like; where there is no `output.weight` the embedding is
    used again (`tied`), and llama.cpp puts a second copy of it beside the output layer when that is on a GPU
    (src/llama-model.cpp: TENSOR_DUPLICATED).
    """

    layers: tuple[LayerWeights, ...]
    embedding_bytes: int
    output_bytes: int
    other_bytes: int
    tied: bool

    @property
    def total_bytes(self) -> int:
        """Return the bytes of all tensors, each once."""
        layers = sum(layer.size_bytes for layer in self.layers)
        return layers + self.embedding_bytes + self.output_bytes + self.other_bytes


def weights_of(tensors: Iterable[Tensor], layer_count: int) -> Weights:
    """Add up the tensors of a model of `layer_count` layers; one of a layer beyond them counts as other."""
    sizes = [0] * layer_count
    experts = [0] * layer_count
    largest = [0] * layer_count
    apart = {"token_embd": 0, "output": 0, "other": 0}
    tied = True
    for tensor in tensors:
        layer = _LAYER.fullmatch(tensor.name)
        if layer is not None and int(layer[1]) < layer_count:
            sizes[int(layer[1])] += tensor.size_bytes
            largest[int(layer[1])] = max(largest[int(layer[1])], tensor.size_bytes)
            if _EXPERTS.fullmatch(tensor.name):
                experts[int(layer[1])] += tensor.size_bytes
            continue
        start = tensor.name.partition(".")[0]
        apart[_part(start)] += tensor.size_bytes
        tied = tied and tensor.name != "output.weight"
    layers = tuple(LayerWeights(*parts) for parts in zip(sizes, experts, largest, strict=True))
    return Weights(layers, apart["token_embd"], apart["output"], apart["other"], tied)


def _part(start: str) -> str:
    if start == "token_embd":
        return "token_embd"
    return "output" if start in {"output", "output_norm"} else "other"
