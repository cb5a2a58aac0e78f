#!/usr/bin/env python3
"""Write a tiny llama model with random weights: real enough for any llama.cpp server to load and speak from.

    make_tiny_gguf.py OUT.gguf [--layers 2] [--embd 64] [--heads 4] [--kv-heads N] [--ff 128] [--ctx 512]
                               [--vocab 512] [--dtype f16|f32] [--seed 0] [--tied]

What it says is noise. The same arguments give the same bytes. Standard library only. The format is GGUF 3:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import argparse
import os
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ALIGNMENT: Final = 32  # of each tensor's data, GGUF's default
POOL: Final = 1 << 16  # random numbers drawn for each spread; a tensor repeats them from its own offset

U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9  # GGUF's types of values
TENSOR_TYPES: Final = {"f32": (0, "f"), "f16": (1, "e")}  # ggml's type, struct's letter
FILE_TYPES: Final = {"f32": 0, "f16": 1}

UNKNOWN, CONTROL, BYTE, NORMAL = 2, 3, 6, 1  # kinds of tokens
FIRST_LETTERS: Final = 3 + 256  # <unk> <s> </s>, then one token for each byte
SMALLEST_VOCAB: Final = FIRST_LETTERS + 95
CHAT_TEMPLATE: Final = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of the model, in the words of its metadata."""

    layers: int
    embd: int
    heads: int
    kv_heads: int
    ff: int
    ctx: int
    vocab: int
    dtype: str
    tied: bool


def string(text: str) -> bytes:
    """Encode a string with its length."""
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def number(key: str, kind: int, value: float) -> bytes:
    """Encode a key with a number."""
    if kind == F32:
        return string(key) + struct.pack("<If", kind, value)
    return string(key) + struct.pack("<I?" if kind == BOOL else "<II", kind, int(value))


def words(key: str, value: str) -> bytes:
    """Encode a key with a string."""
    return string(key) + struct.pack("<I", STRING) + string(value)


def array(key: str, kind: int, items: list[bytes]) -> bytes:
    """Encode a key with an array of values that are encoded already."""
    return string(key) + struct.pack("<IIQ", ARRAY, kind, len(items)) + b"".join(items)


def tokens(count: int) -> list[tuple[str, int]]:
    """List `count` tokens and their kinds: special ones, every byte, what can be printed, then filler."""
    found = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)]
    found += [(f"<0x{byte:02X}>", BYTE) for byte in range(256)]
    found += [(letter, NORMAL) for letter in ["\u2581", *map(chr, range(33, 127))]]
    letters = "etaoinshrdlu"
    pairs = [first + second for second in letters for first in letters]
    found += [("\u2581" + pair, NORMAL) for pair in pairs]
    found += [(f"{pairs[i % len(pairs)]}{i}", NORMAL) for i in range(count - len(found))]
    return found[:count]


def metadata(shape: Shape) -> list[bytes]:
    """Encode all that the header says of the model and its tokenizer."""
    vocabulary = tokens(shape.vocab)
    scores = [float(min(0, FIRST_LETTERS - 1 - i)) for i in range(shape.vocab)]
    sizes = {
        "context_length": shape.ctx,
        "embedding_length": shape.embd,
        "block_count": shape.layers,
        "feed_forward_length": shape.ff,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "rope.dimension_count": shape.embd // shape.heads,
        "vocab_size": shape.vocab,
    }
    return [
        words("general.architecture", "llama"),
        words("general.name", "tiny-random"),
        number("general.file_type", U32, FILE_TYPES[shape.dtype]),
        *(number(f"llama.{key}", U32, value) for key, value in sizes.items()),
        number("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        words("tokenizer.ggml.model", "llama"),
        array("tokenizer.ggml.tokens", STRING, [string(text) for text, _ in vocabulary]),
        array("tokenizer.ggml.scores", F32, [struct.pack("<f", score) for score in scores]),
        array("tokenizer.ggml.token_type", I32, [struct.pack("<i", kind) for _, kind in vocabulary]),
        number("tokenizer.ggml.bos_token_id", U32, 1),
        number("tokenizer.ggml.eos_token_id", U32, 2),
        number("tokenizer.ggml.unknown_token_id", U32, 0),
        number("tokenizer.ggml.add_bos_token", BOOL, value=True),
        number("tokenizer.ggml.add_eos_token", BOOL, value=False),
        words("tokenizer.chat_template", CHAT_TEMPLATE),
    ]


def tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name every tensor with its size: one number for a norm, (rows, columns) for a matrix."""
    kv = shape.embd // shape.heads * shape.kv_heads
    yield "token_embd.weight", (shape.vocab, shape.embd)
    for i in range(shape.layers):
        yield f"blk.{i}.attn_norm.weight", (shape.embd,)
        yield f"blk.{i}.attn_q.weight", (shape.embd, shape.embd)
        yield f"blk.{i}.attn_k.weight", (kv, shape.embd)
        yield f"blk.{i}.attn_v.weight", (kv, shape.embd)
        yield f"blk.{i}.attn_output.weight", (shape.embd, shape.embd)
        yield f"blk.{i}.ffn_norm.weight", (shape.embd,)
        yield f"blk.{i}.ffn_gate.weight", (shape.ff, shape.embd)
        yield f"blk.{i}.ffn_up.weight", (shape.ff, shape.embd)
        yield f"blk.{i}.ffn_down.weight", (shape.embd, shape.ff)
    yield "output_norm.weight", (shape.embd,)
    if not shape.tied:
        yield "output.weight", (shape.vocab, shape.embd)


class Weights:
    """Random weights, normal with a spread of 1/sqrt(columns); a big tensor repeats a pool of them."""

    def __init__(self, seed: int, letter: str) -> None:
        """Draw from `seed`; `letter` is struct's for one weight."""
        self._random = random.Random(seed)  # noqa: S311 - noise, no secret
        self._letter = letter
        self._pools: dict[int, bytes] = {}

    def draw(self, count: int, columns: int) -> bytes:
        """Encode `count` weights of a tensor with rows of `columns`."""
        if columns not in self._pools:
            drawn = (self._random.gauss(0.0, columns**-0.5) for _ in range(POOL))
            self._pools[columns] = struct.pack(f"<{POOL}{self._letter}", *drawn)
        pool = self._pools[columns]
        width = struct.calcsize(self._letter)
        start = self._random.randrange(POOL) * width
        turned = pool[start:] + pool[:start]
        whole, rest = divmod(count * width, len(pool))
        return turned * whole + turned[:rest]


def padded(raw: bytes) -> bytes:
    """Fill up to the alignment."""
    return raw + bytes(-len(raw) % ALIGNMENT)


def encode(shape: Shape, seed: int) -> Iterator[bytes]:
    """Yield the file: its header, then the data of one tensor after another."""
    kind, letter = TENSOR_TYPES[shape.dtype]
    facts = metadata(shape)
    named = list(tensors(shape))
    header = [b"GGUF", struct.pack("<IQQ", 3, len(named), len(facts)), *facts]
    offset = 0
    for name, size in named:
        is_norm = len(size) == 1  # a norm stays f32, as llama.cpp's own converter has it
        header += [string(name), struct.pack("<I", len(size)), struct.pack(f"<{len(size)}Q", *reversed(size))]
        header.append(struct.pack("<IQ", TENSOR_TYPES["f32"][0] if is_norm else kind, offset))
        length = size[0] * 4 if is_norm else size[0] * size[1] * struct.calcsize(letter)
        offset += length + -length % ALIGNMENT
    yield padded(b"".join(header))
    weights = Weights(seed, letter)
    for _, size in named:
        if len(size) == 1:
            yield padded(struct.pack(f"<{size[0]}f", *[1.0] * size[0]))
        else:
            yield padded(weights.draw(size[0] * size[1], size[1]))


def write(out: Path, shape: Shape, seed: int) -> None:
    """Write the model to `out`, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        file.writelines(encode(shape, seed))
    part.replace(out)


def main() -> None:
    """Read the command line and write the model."""
    parser = argparse.ArgumentParser(description="Write a tiny llama model with random weights.")
    parser.add_argument("out", type=Path)
    for name, default in (("layers", 2), ("embd", 64), ("heads", 4), ("ff", 128), ("ctx", 512), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--vocab", type=int, default=512)
    parser.add_argument("--kv-heads", type=int, default=None, help="default: as many as --heads")
    parser.add_argument("--dtype", choices=sorted(TENSOR_TYPES), default="f16")
    parser.add_argument("--tied", action="store_true", help="no output.weight: the embedding is used again")
    given = parser.parse_args()
    if given.vocab < SMALLEST_VOCAB:
        parser.error(f"--vocab {given.vocab} is too small: {SMALLEST_VOCAB} tokens are spoken for")
    if given.embd % given.heads:
        parser.error(f"--embd {given.embd} is no multiple of --heads {given.heads}")
    shape = Shape(
        layers=given.layers,
        embd=given.embd,
        heads=given.heads,
        kv_heads=given.kv_heads or given.heads,
        ff=given.ff,
        ctx=given.ctx,
        vocab=given.vocab,
        dtype=given.dtype,
        tied=given.tied,
    )
    write(given.out, shape, given.seed)


if __name__ == "__main__":
    main()
