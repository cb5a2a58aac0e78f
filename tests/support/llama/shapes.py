"""Writes tiny models of several architectures, all weights zero: real enough for llama.cpp to load."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.llama.ggml_types import TYPES
from support.llama.gguf_files import F32, I32, Given, number, numbers, texts, words, written

KINDS = {kind.name: number for number, kind in TYPES.items()}
BYTES = 256


@dataclass(frozen=True, slots=True)
class Tiny:
    """A model; `heads`, `kv_heads` and `ff` may be one number a layer. `more` are further keys of its own."""

    arch: str = "llama"
    layers: int = 3
    embd: int = 256
    heads: int | tuple[int, ...] = 8
    kv_heads: int | tuple[int, ...] = 2
    head: int = 32
    ff: int | tuple[int, ...] = 512
    vocab: int = 1000
    dtype: str = "f16"
    tied: bool = False
    experts: int = 0
    expert_ff: int = 0
    window: int = 0
    more: Mapping[str, int] = field(default_factory=dict[str, int])

    def each(self, value: int | tuple[int, ...]) -> tuple[int, ...]:
        """Return a number for each layer."""
        return value if isinstance(value, tuple) else (value,) * self.layers


TINY = {
    "mha": Tiny(layers=4, kv_heads=8),
    "gqa": Tiny(layers=4),
    "tied-q8": Tiny(layers=6, embd=128, heads=4, kv_heads=1, head=64, ff=384, dtype="q8_0", tied=True),
    "q4": Tiny(embd=512, kv_heads=4, head=64, ff=1536, vocab=4096, dtype="q4_0"),
    "vocabulary": Tiny(layers=4, embd=128, heads=2, kv_heads=2, head=64, ff=256, vocab=32000),
    "experts": Tiny(experts=8, more={"expert_used_count": 2}),
    "many-experts": Tiny("qwen3moe", head=64, experts=32, expert_ff=128, more={"expert_used_count": 8}),
    "long-heads": Tiny("qwen3", kv_heads=4, head=128, ff=768, tied=True),
    "window": Tiny("gemma3", layers=7, heads=4, head=128, tied=True, window=512),
    "window-experts": Tiny(
        "gpt-oss", layers=4, head=64, experts=8, expert_ff=256, window=128, more={"expert_used_count": 4}
    ),
    "by-layer": Tiny(
        "openelm",
        layers=4,
        heads=(4, 4, 6, 8),
        kv_heads=(1, 1, 2, 2),
        head=64,
        ff=(256, 384, 512, 768),
        tied=True,
    ),
    "state": Tiny(
        "mamba2",
        layers=4,
        embd=128,
        heads=0,
        kv_heads=0,
        ff=0,
        more={
            "ssm.conv_kernel": 4,
            "ssm.inner_size": 256,
            "ssm.state_size": 64,
            "ssm.time_step_rank": 8,
            "ssm.group_count": 1,
        },
    ),
    "latent": Tiny(
        "deepseek2",
        kv_heads=1,
        head=96,
        experts=8,
        expert_ff=128,
        more={
            "expert_used_count": 2,
            "expert_shared_count": 1,
            "leading_dense_block_count": 1,
            "attention.q_lora_rank": 96,
            "attention.kv_lora_rank": 64,
            "attention.key_length_mla": 64,
            "attention.value_length_mla": 32,
        },
    ),
}


def make(path: Path, tiny: Tiny) -> Path:
    """Write a model."""
    return written(path, list(_keys(tiny)), list(_tensors(tiny)))


def _keys(tiny: Tiny) -> Iterator[bytes]:
    sizes: dict[str, int | tuple[int, ...]] = {
        "block_count": tiny.layers,
        "context_length": 8192,
        "embedding_length": tiny.embd,
        "feed_forward_length": tiny.ff,
        "attention.head_count": tiny.heads,
        "attention.head_count_kv": tiny.kv_heads,
        "attention.key_length": tiny.head,
        "attention.value_length": tiny.head,
        "rope.dimension_count": 32 if tiny.arch == "deepseek2" else tiny.head,
        "vocab_size": tiny.vocab,
        **tiny.more,
    }
    optional = {
        "attention.sliding_window": tiny.window,
        "expert_count": tiny.experts,
        "expert_feed_forward_length": tiny.expert_ff,
    }
    yield words("general.architecture", tiny.arch)
    for key, value in (sizes | {key: value for key, value in optional.items() if value}).items():
        whole = f"{tiny.arch}.{key}"
        yield numbers(whole, value) if isinstance(value, tuple) else number(whole, value)
    yield number(f"{tiny.arch}.attention.layer_norm_rms_epsilon", 1e-5, F32)
    yield number(f"{tiny.arch}.expert_weights_scale", 1.0, F32)
    yield from _tokens(tiny.vocab)


def _tokens(count: int) -> Iterator[bytes]:
    """Yield a tokenizer in the manner of SentencePiece, with a token for each byte."""
    rest = count - 3 - BYTES
    named = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(BYTES)),
        *(f"t{i}" for i in range(rest)),
    ]
    yield words("tokenizer.ggml.model", "llama")
    yield texts("tokenizer.ggml.tokens", named)
    yield numbers("tokenizer.ggml.scores", [-float(i) for i in range(count)], F32)
    yield numbers("tokenizer.ggml.token_type", [2, 3, 3] + [6] * BYTES + [1] * rest, I32)
    yield number("tokenizer.ggml.bos_token_id", 1)
    yield number("tokenizer.ggml.eos_token_id", 2)
    yield number("tokenizer.ggml.unknown_token_id", 0)


def _tensors(tiny: Tiny) -> Iterator[Given]:
    yield _tensor("token_embd.weight", (tiny.embd, tiny.vocab), tiny.dtype)
    for layer in range(tiny.layers):
        named = (
            _state(tiny) if tiny.arch == "mamba2" else {**_attention(tiny, layer), **_forward(tiny, layer)}
        )
        for name, dims in named.items():
            plain = len(dims) == 1 or name.startswith(
                ("ssm_conv", "ssm_a", "ssm_d", "ssm_norm", "ffn_gate_inp")
            )
            kind = "f32" if plain or name.endswith(".bias") else tiny.dtype
            yield _tensor(f"blk.{layer}.{name}", dims, kind)
    yield _tensor("output_norm.weight", (tiny.embd,), "f32")
    if not tiny.tied:
        yield _tensor("output.weight", (tiny.embd, tiny.vocab), tiny.dtype)


def _tensor(name: str, dims: tuple[int, ...], kind: str) -> Given:
    known = TYPES[KINDS[kind]]
    return Given(name, KINDS[kind], dims, math.prod(dims) // known.block * known.block_bytes)


def _attention(tiny: Tiny, layer: int) -> dict[str, tuple[int, ...]]:
    width, head = tiny.embd, tiny.head
    heads, kv_heads = tiny.each(tiny.heads)[layer], tiny.each(tiny.kv_heads)[layer]
    found: dict[str, tuple[int, ...]] = {"attn_norm.weight": (width,)}
    if tiny.arch == "deepseek2":
        return found | _latent(tiny, heads)
    parts = {"q": heads * head, "k": kv_heads * head, "v": kv_heads * head}
    if tiny.arch == "openelm":
        found["attn_qkv.weight"] = (width, sum(parts.values()))
    else:
        found |= {f"attn_{part}.weight": (width, size) for part, size in parts.items()}
    found["attn_output.weight"] = (heads * head, width)
    if tiny.arch in {"gemma3", "qwen3", "qwen3moe", "openelm"}:
        found |= {"attn_q_norm.weight": (head,), "attn_k_norm.weight": (head,)}
    if tiny.arch == "gemma3":
        found |= {"post_attention_norm.weight": (width,), "post_ffw_norm.weight": (width,)}
    if tiny.arch == "gpt-oss":
        found |= {"post_attention_norm.weight": (width,), "attn_sinks.weight": (heads,)}
        found |= {f"attn_{part}.bias": (size,) for part, size in (parts | {"output": width}).items()}
    return found


def _latent(tiny: Tiny, heads: int) -> dict[str, tuple[int, ...]]:
    queries, kept = tiny.more["attention.q_lora_rank"], tiny.more["attention.kv_lora_rank"]
    key, value = tiny.more["attention.key_length_mla"], tiny.more["attention.value_length_mla"]
    rope = tiny.head - kept
    return {
        "attn_q_a_norm.weight": (queries,),
        "attn_kv_a_norm.weight": (kept,),
        "attn_q_a.weight": (tiny.embd, queries),
        "attn_q_b.weight": (queries, heads * key),
        "attn_kv_a_mqa.weight": (tiny.embd, kept + rope),
        "attn_k_b.weight": (key - rope, kept, heads),
        "attn_v_b.weight": (kept, value, heads),
        "attn_output.weight": (heads * value, tiny.embd),
    }


def _forward(tiny: Tiny, layer: int) -> dict[str, tuple[int, ...]]:
    width, dense = tiny.embd, tiny.each(tiny.ff)[layer]
    found: dict[str, tuple[int, ...]] = {} if tiny.arch == "gpt-oss" else {"ffn_norm.weight": (width,)}
    if not tiny.experts or layer < tiny.more.get("leading_dense_block_count", 0):
        return found | _gated("", (width, dense))
    each, count = tiny.expert_ff or dense, tiny.experts
    found["ffn_gate_inp.weight"] = (width, count)
    found |= _gated("_exps", (width, each, count))
    if tiny.arch == "gpt-oss":
        found |= {"ffn_gate_inp.bias": (count,), "ffn_down_exps.bias": (width, count)}
        found |= {"ffn_gate_exps.bias": (each, count), "ffn_up_exps.bias": (each, count)}
    if "expert_shared_count" in tiny.more:
        found |= _gated("_shexp", (width, each))
    return found


def _gated(of: str, up: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return the three weights of a feed-forward part, given the way up."""
    width, each, *count = up
    return {
        f"ffn_gate{of}.weight": up,
        f"ffn_down{of}.weight": (each, width, *count),
        f"ffn_up{of}.weight": up,
    }


def _state(tiny: Tiny) -> dict[str, tuple[int, ...]]:
    inner, state, rank = (tiny.more[f"ssm.{name}"] for name in ("inner_size", "state_size", "time_step_rank"))
    conv = inner + 2 * tiny.more["ssm.group_count"] * state
    return {
        "attn_norm.weight": (tiny.embd,),
        "ssm_in.weight": (tiny.embd, inner + conv + rank),
        "ssm_conv1d.weight": (tiny.more["ssm.conv_kernel"], conv),
        "ssm_conv1d.bias": (conv,),
        "ssm_dt.bias": (rank,),
        "ssm_a": (1, rank),
        "ssm_d": (1, rank),
        "ssm_norm.weight": (inner, 1),
        "ssm_out.weight": (inner, tiny.embd),
    }
