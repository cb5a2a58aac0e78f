"""The shape of a language model: the sizes in its metadata that its memory follows from.

Keys and defaults: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, and llama.cpp's
src/llama-arch.cpp and src/llama-model.cpp (load_hparams).
"""

from typing import Final

from msgspec import Struct

from supervisor.llama.gguf import Gguf
from supervisor.llama.keys import Keys

_MOST_LAYERS: Final = 1024  # llama.cpp's LLAMA_MAX_LAYERS is 512


class Latent(Struct, frozen=True):
    """Multi-head latent attention (MLA): the cache holds `kv_lora_rank` and a rope part, not heads."""

    kv_lora_rank: int | None
    q_lora_rank: int | None
    key_length: int | None
    value_length: int | None


class Sliding(Struct, frozen=True):
    """Sliding-window attention. `pattern`: a bool a layer (True: windowed), or N: every Nth is not."""

    window: int
    pattern: tuple[bool, ...] | int | None
    key_length: int | None
    value_length: int | None


class Experts(Struct, frozen=True):
    """A mixture of experts."""

    count: int
    used: int | None
    shared: int | None
    feed_forward_length: int | None
    leading_dense_layers: int


class Recurrent(Struct, frozen=True):
    """State-space (Mamba-like) layers; their state is per sequence, not per token."""

    conv_kernel: int | None
    inner_size: int | None
    state_size: int | None
    time_step_rank: int | None
    group_count: int | None


class Rope(Struct, frozen=True):
    """Rotary position embedding."""

    dimension_count: int | None
    freq_base: float | None
    scaling_type: str | None
    scaling_factor: float | None
    original_context_length: int | None


class Shape(Struct, frozen=True):
    """A model's sizes; `heads`, `kv_heads` and `feed_forward_lengths` have one number a layer."""

    architecture: str
    layers: int
    embedding_length: int
    context_length: int | None
    vocabulary: int | None
    heads: tuple[int, ...]
    kv_heads: tuple[int, ...]
    key_length: int
    value_length: int
    feed_forward_lengths: tuple[int, ...]
    shared_kv_layers: int
    predict_layers: int  # of multi-token prediction, the last of `layers`
    full_attention_interval: int | None
    latent: Latent | None
    sliding: Sliding | None
    experts: Experts | None
    recurrent: Recurrent | None
    rope: Rope
    file_type: int | None  # llama_ftype in include/llama.h


def shape_of(model: Gguf) -> Shape:
    """Gather the shape of a language model; raises GgufError where a size is missing, absurd or no number.

    Without `key_length` a head has embedding_length / heads numbers, heads being the most in any layer.
    """
    keys = Keys(model)
    layers = keys.needed("block_count", most=_MOST_LAYERS)
    embedding = keys.needed("embedding_length")
    heads = keys.by_layer("attention.head_count", layers, (0,) * layers)
    head_length = embedding // max(heads) if any(heads) else 0
    return Shape(
        architecture=keys.architecture,
        layers=layers,
        embedding_length=embedding,
        context_length=keys.whole("context_length"),
        vocabulary=keys.vocabulary(),
        heads=heads,
        kv_heads=keys.by_layer("attention.head_count_kv", layers, heads),
        key_length=keys.whole("attention.key_length", head_length),
        value_length=keys.whole("attention.value_length", head_length),
        feed_forward_lengths=keys.by_layer("feed_forward_length", layers, (0,) * layers),
        shared_kv_layers=keys.whole("attention.shared_kv_layers", 0),
        predict_layers=keys.whole("nextn_predict_layers", 0),
        full_attention_interval=keys.whole("full_attention_interval"),
        latent=_latent(keys),
        sliding=_sliding(keys, layers),
        experts=_experts(keys),
        recurrent=_recurrent(keys),
        rope=_rope(keys),
        file_type=keys.whole("general.file_type"),
    )


def _latent(keys: Keys) -> Latent | None:
    found = Latent(
        keys.whole("attention.kv_lora_rank"),
        keys.whole("attention.q_lora_rank"),
        keys.whole("attention.key_length_mla"),
        keys.whole("attention.value_length_mla"),
    )
    return found if found.kv_lora_rank or found.key_length else None


def _sliding(keys: Keys, layers: int) -> Sliding | None:
    window = keys.whole("attention.sliding_window", 0)
    whole, given = keys.found("attention.sliding_window_pattern")
    pattern: tuple[bool, ...] | int | None
    if isinstance(given, tuple):
        if len(given) != layers:
            raise keys.wrong(whole, f"has {len(given)} items, and there are {layers} layers")
        pattern = tuple(bool(item) for item in given)
    else:
        pattern = keys.whole("attention.sliding_window_pattern")
    key_length, value_length = (keys.whole(f"attention.{part}_length_swa") for part in ("key", "value"))
    return Sliding(window, pattern, key_length, value_length) if window else None


def _experts(keys: Keys) -> Experts | None:
    count = keys.whole("expert_count", 0)
    if not count:
        return None
    return Experts(
        count,
        keys.whole("expert_used_count"),
        keys.whole("expert_shared_count"),
        keys.whole("expert_feed_forward_length"),
        keys.whole("leading_dense_block_count", 0),
    )


def _recurrent(keys: Keys) -> Recurrent | None:
    sizes = [
        keys.whole(f"ssm.{name}")
        for name in ("conv_kernel", "inner_size", "state_size", "time_step_rank", "group_count")
    ]
    return Recurrent(*sizes) if any(sizes) else None


def _rope(keys: Keys) -> Rope:
    return Rope(
        keys.whole("rope.dimension_count"),
        keys.real("rope.freq_base"),
        keys.text("rope.scaling.type"),
        keys.real("rope.scaling.factor"),
        keys.whole("rope.scaling.original_context_length"),
    )
