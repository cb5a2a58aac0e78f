"""Writes small GGUF files, right or wrong ones: keys and tensors are given, nothing is filled in."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
LETTERS = dict(zip(range(13), ["B", "b", "H", "h", "I", "i", "f", "?", "", "", "Q", "q", "d"], strict=True))
ALIGNMENT = 32


@dataclass(frozen=True, slots=True)
class Given:
    """A tensor to be written: ggml's type, the row first, and the bytes that it takes."""

    name: str
    kind: int
    dims: tuple[int, ...]
    size_bytes: int


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def number(key: str, value: float, kind: int = U32) -> bytes:
    return text(key) + struct.pack(f"<I{LETTERS[kind]}", kind, value)


def words(key: str, value: str) -> bytes:
    return text(key) + struct.pack("<I", STRING) + text(value)


def numbers(key: str, values: Sequence[float], kind: int = I32) -> bytes:
    head = text(key) + struct.pack("<IIQ", ARRAY, kind, len(values))
    return head + struct.pack(f"<{len(values)}{LETTERS[kind]}", *values)


def texts(key: str, values: Sequence[str]) -> bytes:
    head = text(key) + struct.pack("<IIQ", ARRAY, STRING, len(values))
    return head + b"".join(text(value) for value in values)


def header(keys: Sequence[bytes], tensors: Sequence[Given] = (), version: int = 3) -> bytes:
    """Encode a header, the tensors one after another as the format wants them."""
    raw = [b"GGUF", struct.pack("<IQQ", version, len(tensors), len(keys)), *keys]
    offset = 0
    for tensor in tensors:
        raw.append(text(tensor.name) + struct.pack(f"<I{len(tensor.dims)}Q", len(tensor.dims), *tensor.dims))
        raw.append(struct.pack("<IQ", tensor.kind, offset))
        offset += tensor.size_bytes + -tensor.size_bytes % ALIGNMENT
    return b"".join(raw)


def encoded(keys: Sequence[bytes], tensors: Sequence[Given] = (), version: int = 3) -> bytes:
    """Encode a whole file; the weights are zeros."""
    raw = header(keys, tensors, version)
    for tensor in tensors:
        raw += bytes(-len(raw) % ALIGNMENT) + bytes(tensor.size_bytes)
    return raw


def written(path: Path, keys: Sequence[bytes], tensors: Sequence[Given] = (), version: int = 3) -> Path:
    """Write a whole file."""
    path.write_bytes(encoded(keys, tensors, version))
    return path


LLAMA = (
    words("general.architecture", "llama"),
    number("general.file_type", 1),
    number("llama.block_count", 2),
    number("llama.context_length", 4096),
    number("llama.embedding_length", 64),
    number("llama.feed_forward_length", 128),
    number("llama.attention.head_count", 4),
    number("llama.attention.head_count_kv", 2),
    number("llama.rope.freq_base", 10000.0, F32),
    texts("tokenizer.ggml.tokens", ["<unk>", "<s>", "</s>"]),
)
TENSORS = (
    Given("token_embd.weight", 1, (64, 3), 384),
    Given("blk.0.attn_norm.weight", 0, (64,), 256),
    Given("blk.0.attn_q.weight", 8, (64, 64), 4352),
    Given("blk.1.attn_norm.weight", 0, (64,), 256),
    Given("blk.1.ffn_up_exps.weight", 12, (256, 2, 2), 576),
    Given("output_norm.weight", 0, (64,), 256),
    Given("output.weight", 1, (64, 3), 384),
    Given("rope_freqs.weight", 0, (8,), 32),
)
