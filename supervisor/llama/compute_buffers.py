"""The bytes that llama.cpp computes in, reserved for the longest batch when a context is made.

ggml-alloc packs the tensors of a graph, so its size is the largest sum of what lives at one time. The sums
here are upper bounds of what llama-server 0.7.0 printed for generated models of several shapes
(docs/llama.md).
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from supervisor.llama.kv_cache import cells_of, state_bytes
from supervisor.llama.layers import Kind, kinds_of
from supervisor.llama.settings import Context, Settings, cache_type
from supervisor.llama.shape import Shape

_F32: Final = 4
_F16: Final = 2
_INPUTS: Final = 12  # of four bytes for each token: its number, its position, its places in K and V
_FEW: Final = 16 << 10  # inputs that do not grow with the batch
_BIASED: Final = frozenset({"gpt-oss"})  # each expert adds a bias, to a copy


class Work(Struct, frozen=True):
    """What some layers of a model are computed in: masks throughout, and the widest step of each part.

    `last_bytes` is the attention of the model's last layer, which ends with the few rows that are wanted.
    """

    mask_bytes: int
    embedding_bytes: int  # of one batch
    attention_bytes: int
    last_bytes: int
    feed_forward_bytes: int
    moved_bytes: int  # the feed-forward part, where its batch comes from another place
    logits_bytes: int

    @property
    def host_bytes(self) -> int:
        """Return what layers on the host take."""
        return self.mask_bytes + max(self.attention_bytes, self.feed_forward_bytes, self.logits_bytes)

    @property
    def device_bytes(self) -> int:
        """Return what all layers take on GPUs, spared the embedding; experts gain nothing by that."""
        spared = 0 if self.moved_bytes else self.embedding_bytes
        return self.mask_bytes + max(
            self.attention_bytes - self.embedding_bytes, self.feed_forward_bytes - spared, self.logits_bytes
        )

    @property
    def shared_bytes(self) -> int:
        """Return what layers on a GPU take where others are elsewhere."""
        return max(self.device_bytes, self.mask_bytes + self.moved_bytes)

    @property
    def attention_only_bytes(self) -> int:
        """Return what layers on a GPU take without their feed-forward part: their experts are on the host."""
        return self.mask_bytes + max(self.attention_bytes, self.logits_bytes)

    @property
    def last_only_bytes(self) -> int:
        """Return what the last layer takes where it is alone on a GPU."""
        return self.mask_bytes + max(self.last_bytes, self.logits_bytes)

    @property
    def inputs_bytes(self) -> int:
        """Return what the host needs with no layer: the masks and four times the embedding."""
        return self.mask_bytes + 4 * self.embedding_bytes


def work_of(shape: Shape, settings: Settings, context: Context, layers: Sequence[int]) -> Work:
    """Return the sizes of the steps of `layers`, for a batch of `context.tokens`.

    With E the embedding, Q and K the queries and keys of a token, F the feed-forward length, u the experts in
    use and n the cells, in f32 numbers for each token: attention 5E + 2Q + 2K, without flash attention n *
    heads + max(3E + 3Q + 2K, 6E + 2Q); feed-forward 5E + 3F, of experts max(5E + 3uF, E + 2uE); a mask of n
    f16 for each kind of cache, of f32 without flash attention; one row of logits for each slot. What the last
    layer adds to a batch is only the rows that are wanted (build_inp_out_ids), so its feed-forward part
    counts for nothing.
    """
    per_token = context.tokens * _F32
    wide = [layer for layer in layers if layer != shape.layers - 1]
    states = 2 * state_bytes(shape) * settings.slots
    return Work(
        mask_bytes=masks_bytes(shape, settings, context, layers),
        embedding_bytes=shape.embedding_length * per_token,
        attention_bytes=_attention(shape, settings, context, layers) * per_token + states,
        last_bytes=_last(shape, settings, context) * per_token + states,
        feed_forward_bytes=_feed_forward(shape, settings, wide) * per_token,
        moved_bytes=_moved(shape, wide) * per_token,
        logits_bytes=settings.slots * (shape.vocabulary or 0) * _F32 + shape.embedding_length * per_token,
    )


def output_bytes(shape: Shape, settings: Settings) -> int:
    """Return the buffer of the results: one row of logits for each slot (llama_context::output_reserve)."""
    return settings.slots * (shape.vocabulary or 0) * _F32


def output_only_bytes(shape: Shape, settings: Settings, context: Context) -> int:
    """Return what a GPU takes with nothing but the output; after a recurrent layer, for a whole batch."""
    batch = 2 * shape.embedding_length * context.tokens * _F32 if shape.recurrent is not None else 0
    return output_bytes(shape, settings) + settings.slots * shape.embedding_length * _F32 + batch + _FEW


def masks_bytes(shape: Shape, settings: Settings, context: Context, layers: Sequence[int]) -> int:
    """Return the inputs: masks of cells by tokens, for each cache (build_attn_inp_kv), and small ones.

    Quantized caches are turned by Hadamard matrices (attn_rot in src/llama-kv-cache.cpp), which are inputs
    too.
    """
    wide = _F16 if settings.flash_attention else _F32
    all_kinds = kinds_of(shape)
    kinds = {all_kinds[layer] for layer in layers} & {Kind.FULL, Kind.WINDOW, Kind.BOTH}
    turned = sum(cache_type(name).block > 1 for name in (settings.cache_k, settings.cache_v))
    turning = turned * max(shape.key_length, shape.value_length) ** 2 * _F32
    # without flash attention V is transposed, and each of its numbers has a place, of 8 bytes
    places = 0 if settings.flash_attention else 8 * max(shape.kv_heads) * shape.value_length
    per_token = sum(cells_of(shape, settings, context, kind) * wide + places for kind in kinds)
    return (per_token + _INPUTS * _F32) * context.tokens + turning * len(kinds) + _FEW


def _attention(shape: Shape, settings: Settings, context: Context, layers: Sequence[int]) -> int:
    width = shape.embedding_length
    queries, keys, values = _widths(shape, layers)
    if not keys:
        return _state(shape)
    if settings.flash_attention:
        return max(5 * width + 2 * queries + 2 * keys + values, _state(shape))
    steps = max(3 * width + 3 * queries + 2 * keys, 6 * width + 2 * queries)
    apart = 2 * width if shape.sliding is not None else 0
    kinds = kinds_of(shape)
    cells = max(cells_of(shape, settings, context, kinds[layer]) for layer in layers)
    scores = max(shape.heads[layer] for layer in layers) * cells
    return max(scores + steps + values + apart, _state(shape))


def _last(shape: Shape, settings: Settings, context: Context) -> int:
    layers = (shape.layers - 1,)
    if not settings.flash_attention or shape.experts is not None or shape.recurrent is not None:
        return _attention(shape, settings, context, layers)
    width = shape.embedding_length
    queries, keys, values = _widths(shape, layers)
    return max(width + 2 * queries + 2 * keys, 3 * width + 2 * queries) + values


def _widths(shape: Shape, layers: Sequence[int]) -> tuple[int, int, int]:
    """Return the queries, the keys and, with MLA, the values of a token in the widest of `layers`."""
    heads = max((shape.heads[layer] for layer in layers), default=0)
    kv_heads = max((shape.kv_heads[layer] for layer in layers), default=0)
    values = heads * (shape.latent.value_length or 0) if shape.latent is not None else 0
    return heads * shape.key_length, kv_heads * shape.key_length, values


def _feed_forward(shape: Shape, settings: Settings, layers: Sequence[int]) -> int:
    width = shape.embedding_length
    apart = 5 if settings.flash_attention else 6
    dense = max((shape.feed_forward_lengths[layer] for layer in layers), default=0)
    if shape.experts is None or not layers:
        return apart * width + 3 * dense
    used = shape.experts.used or shape.experts.count
    each = shape.experts.feed_forward_length or dense
    shared = width if shape.experts.shared else 0
    biased = 2 * used * each if shape.architecture in _BIASED else 0
    found = max(apart * width + 3 * used * each, (apart - 4) * width + 2 * used * width + biased) + shared
    return max(found, apart * width + 3 * dense) if shape.experts.leading_dense_layers else found


def _moved(shape: Shape, layers: Sequence[int]) -> int:
    """Return the part of experts where the batch comes from another place: less of it can be packed."""
    if shape.experts is None or not layers:
        return 0
    used = shape.experts.used or shape.experts.count
    return shape.embedding_length * (1 + 3 * used)


def _state(shape: Shape) -> int:
    recurrent = shape.recurrent
    if recurrent is None:
        return 0
    inner, state = recurrent.inner_size or 0, recurrent.state_size or 0
    conv = inner + 2 * (recurrent.group_count or 0) * state
    return 2 * shape.embedding_length + 2 * (inner + conv + (recurrent.time_step_rank or 0)) + 2 * conv
