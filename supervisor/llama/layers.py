"""What each layer of a model remembers: all tokens, a window of them, or a state.

The patterns are those of github.com/ggml-org/llama.cpp at 0c1e570 (src/models/*.cpp: load_arch_hparams). A
model of an architecture that is not listed is taken to remember all tokens in every layer, which is never too
little.
"""

from enum import Enum
from typing import Final

from supervisor.llama.shape import Shape, Sliding


class Kind(Enum):
    """The memory of a layer."""

    FULL = "full"
    WINDOW = "window"
    STATE = "state"
    BOTH = "both"  # a state and all tokens
    NONE = "none"


# load_swa_pattern: every Nth layer is full, the last of N or the first, unless the file says otherwise
_WINDOWS: Final = {
    **dict.fromkeys(("afmoe", "cohere2", "exaone-moe", "exaone4", "mellum", "olmo2"), (4, False)),
    **dict.fromkeys(("cohere2moe", "smallthinker", "laguna"), (4, True)),
    **dict.fromkeys(("gemma2", "gpt-oss"), (2, False)),
    "gemma3": (6, False),
    "gemma3n": (5, False),
    "plamo3": (8, False),
}
# these read the pattern from the file alone
_WRITTEN: Final = frozenset({"gemma4", "mimo2", "step35", "granite-swa"})
_STATES: Final = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
# hybrids: a layer without KV heads has a state
_BY_HEADS: Final = frozenset(
    {"jamba", "granitehybrid", "plamo2", "lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe", "kimi-linear"}
)
# hybrids: every full_attention_interval-th layer remembers all
_BY_INTERVAL: Final = frozenset({"qwen3next", "qwen35", "qwen35moe"})
_USUAL_INTERVAL: Final = 4


def kinds_of(shape: Shape) -> tuple[Kind, ...]:
    """Return the memory of each layer; those that only predict further tokens have none."""
    trunk = shape.layers - shape.predict_layers
    owning = trunk - shape.shared_kv_layers  # the last of the trunk use the cache of earlier ones
    return tuple(
        Kind.NONE if layer >= trunk or (shape.shared_kv_layers and layer >= owning) else _kind(shape, layer)
        for layer in range(shape.layers)
    )


def _kind(shape: Shape, layer: int) -> Kind:
    name = shape.architecture
    if name in _STATES:
        return Kind.STATE
    if name == "falcon-h1":
        return Kind.BOTH
    if name in _BY_INTERVAL and (layer + 1) % (shape.full_attention_interval or _USUAL_INTERVAL):
        return Kind.STATE
    if shape.kv_heads[layer] == 0:
        return Kind.STATE if name in _BY_HEADS and not _is_feed_forward(shape, layer) else Kind.NONE
    return Kind.WINDOW if shape.sliding is not None and _windowed(name, shape.sliding, layer) else Kind.FULL


def _is_feed_forward(shape: Shape, layer: int) -> bool:
    """Whether a layer of Nemotron-H is nothing but a feed-forward one; in other hybrids none is."""
    return shape.architecture.startswith("nemotron_h") and shape.feed_forward_lengths[layer] > 0


def _windowed(name: str, sliding: Sliding, layer: int) -> bool:
    if name not in _WINDOWS and name not in _WRITTEN:
        return False
    if isinstance(sliding.pattern, tuple):
        return sliding.pattern[layer]
    if name in _WRITTEN:
        return False
    usual, first = _WINDOWS[name]
    every = usual if sliding.pattern is None else sliding.pattern
    if every == 0:
        return True
    return layer % every != 0 if first else layer % every < every - 1
