"""The bytes of what a model remembers: keys and values of tokens, and the state of recurrent layers."""

from msgspec import Struct

from supervisor.llama.ggml_types import GgmlType
from supervisor.llama.layers import Kind, kinds_of
from supervisor.llama.settings import Context, Settings, cache_type, padded
from supervisor.llama.shape import Shape

_STATE_BYTES = 4  # states are f32 whatever the type of the cache is


class LayerCache(Struct, frozen=True):
    """What one layer remembers: `kv_bytes` of tokens, `state_bytes` of recurrence."""

    kv_bytes: int = 0
    state_bytes: int = 0


def caches_of(shape: Shape, settings: Settings, context: Context) -> tuple[LayerCache, ...]:
    """Return what each layer remembers, all slots together.

    src/llama-kv-cache.cpp (llama_kv_cache): for each layer a K and a V tensor of `cells` rows for each
    stream, rows of head_count_kv heads of key_length and value_length numbers; with MLA there is no V.
    Without flash attention V is transposed, and of the widest layer's size in every layer.
    src/llama-memory-recurrent.cpp: for each slot (conv_kernel - 1) * (inner + 2 * groups * state) and state *
    inner numbers in f32 (llama_hparams::n_embd_r and n_embd_s). Raises ValueError for a type that no cache
    has.
    """
    keys, values = cache_type(settings.cache_k), cache_type(settings.cache_v)
    kinds = kinds_of(shape)
    widths = [_widths(shape, kind, layer) for layer, kind in enumerate(kinds)]
    if not settings.flash_attention:
        widest = max((value for _, value in widths), default=0)
        widths = [(key, widest if key else 0) for key, _ in widths]
    found: list[LayerCache] = []
    for kind, (key, value) in zip(kinds, widths, strict=True):
        cells = cells_of(shape, settings, context, kind)
        rows = cells * context.streams
        state = state_bytes(shape) * settings.slots if kind in {Kind.STATE, Kind.BOTH} else 0
        found.append(LayerCache((_row(keys, key) + _row(values, value)) * rows, state))
    return tuple(found)


def cells_of(shape: Shape, settings: Settings, context: Context, kind: Kind) -> int:
    """Return the cells of one stream of a layer's cache.

    Windowed (src/llama-kv-cache-iswa.cpp): pad256(min(cells, window * (slots where unified, else 1) +
    ubatch)).
    """
    if kind in {Kind.STATE, Kind.NONE}:
        return 0
    if kind is not Kind.WINDOW or shape.sliding is None or settings.swa_full:
        return context.cells
    sequences = settings.slots if settings.kv_unified else 1
    return padded(min(context.cells, shape.sliding.window * sequences + context.tokens))


def state_bytes(shape: Shape) -> int:
    """Return the state of one recurrent layer for one slot; 0 where the file has no ssm keys (RWKV, LFM2)."""
    recurrent = shape.recurrent
    if recurrent is None:
        return 0
    inner, state = recurrent.inner_size or 0, recurrent.state_size or 0
    conv = max(0, (recurrent.conv_kernel or 0) - 1) * (inner + 2 * (recurrent.group_count or 0) * state)
    return (conv + state * inner) * _STATE_BYTES


def _widths(shape: Shape, kind: Kind, layer: int) -> tuple[int, int]:
    """Return how many numbers a token has in the K and in the V of a layer."""
    if kind in {Kind.STATE, Kind.NONE}:
        return 0, 0
    heads = shape.kv_heads[layer]
    key, value = shape.key_length, shape.value_length
    if kind is Kind.WINDOW and shape.sliding is not None:
        key = shape.sliding.key_length or key
        value = shape.sliding.value_length or value
    latent = shape.latent is not None and shape.latent.key_length and shape.latent.value_length
    return heads * key, 0 if latent else heads * value


def _row(kind: GgmlType, numbers: int) -> int:
    """Return the bytes of a row, in whole blocks (ggml_row_size)."""
    return -(-numbers // kind.block) * kind.block_bytes
