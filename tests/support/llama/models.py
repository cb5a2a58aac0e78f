"""Models as the reckoning sees them, without files."""

from pathlib import Path

from msgspec.structs import replace

from supervisor.llama.model import Model
from supervisor.llama.shape import Experts, Rope, Shape
from supervisor.llama.weights import LayerWeights, Weights

MIB = 1 << 20
NO_ROPE = Rope(None, None, None, None, None)


def shape_of_llama(layers: int = 4, experts: Experts | None = None, architecture: str = "llama") -> Shape:
    """Return the shape of a small model: 8 heads of 32 numbers, 2 of them with keys."""
    return Shape(
        architecture=architecture,
        layers=layers,
        embedding_length=256,
        context_length=8192,
        vocabulary=1000,
        heads=(8,) * layers,
        kv_heads=(2,) * layers,
        key_length=32,
        value_length=32,
        feed_forward_lengths=(512,) * layers,
        shared_kv_layers=0,
        predict_layers=0,
        full_attention_interval=None,
        latent=None,
        sliding=None,
        experts=experts,
        recurrent=None,
        rope=NO_ROPE,
        file_type=None,
    )


def model_of(shape: Shape, layer: LayerWeights, *, tied: bool = False) -> Model:
    """Return a model whose layers weigh the same; embedding 1000 bytes, output 2000, the rest 7."""
    weights = Weights((layer,) * shape.layers, 1000, 100 if tied else 2000, 7, tied)
    return Model((Path("/models/m.gguf"),), shape, weights, weights.total_bytes)


def llama_8b() -> Model:
    """Return the sizes of a Llama 3 model of 8 billion weights in 4 bits: 4.6 GiB."""
    layers = 32
    shape = replace(
        shape_of_llama(layers),
        embedding_length=4096,
        context_length=131072,
        vocabulary=128256,
        heads=(32,) * layers,
        kv_heads=(8,) * layers,
        key_length=128,
        value_length=128,
        feed_forward_lengths=(14336,) * layers,
    )
    weights = Weights((LayerWeights(122 * MIB, 0, 33 * MIB),) * layers, 282 * MIB, 411 * MIB, 0, tied=False)
    return Model((Path("/models/llama-8b.gguf"),), shape, weights, weights.total_bytes)


def mixture() -> Model:
    """Return a mixture of 8 experts whose experts are most of 26 GiB."""
    experts = Experts(8, 2, None, None, 0)
    weights = Weights(
        (LayerWeights(820 * MIB, 780 * MIB, 260 * MIB),) * 32, 100 * MIB, 100 * MIB, 0, tied=False
    )
    shape = shape_of_llama(32, experts)
    return Model((Path("/models/mixture.gguf"),), shape, weights, weights.total_bytes)
