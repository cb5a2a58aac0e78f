"""Nothing that a file can hold raises anything but one clear error."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.llama.gguf import GgufError, read_gguf
from supervisor.llama.shape import shape_of
from supervisor.llama.weights import weights_of
from support.llama.gguf_files import (
    BOOL,
    LLAMA,
    TENSORS,
    U8,
    U16,
    U32,
    encoded,
    number,
    numbers,
    text,
    texts,
    words,
)

QUIET = settings(
    max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
GOOD = (
    encoded(LLAMA, TENSORS),
    encoded([*LLAMA, number("split.no", 0, U16), number("split.count", 2, U16)], TENSORS[:2], version=2),
    encoded([*LLAMA[:3], numbers("llama.attention.head_count", [4, 2]), number("llama.embedding_length", 8)]),
)
# numbers that matter: each type of value, limits, and what turns negative or overflows in C
TELLING = st.sampled_from(
    [*range(16), 42, 43, 255, 65535, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1]
)


def eight_bytes(value: int) -> bytes:
    return value.to_bytes(8, "little")


def four_bytes(value: int) -> bytes:
    return (value & 0xFFFFFFFF).to_bytes(4, "little")


EDITS = st.lists(
    st.tuples(
        st.integers(0, 1 << 13),
        st.one_of(
            st.binary(min_size=1, max_size=9),
            TELLING.map(eight_bytes),
            TELLING.map(four_bytes),
        ),
    ),
    min_size=1,
    max_size=4,
)
KEYS = st.sampled_from(
    [
        *(f"llama.{name}" for name in ("block_count", "embedding_length", "context_length", "vocab_size")),
        *(f"llama.attention.{name}" for name in ("head_count", "head_count_kv", "sliding_window_pattern")),
        *("general.architecture", "general.alignment", "split.count", "split.no", "tokenizer.ggml.tokens"),
    ]
)


def raw_entry(key: str, rest: bytes) -> bytes:
    return text(key) + rest


ENTRIES = st.one_of(
    st.builds(number, KEYS, st.integers(0, (1 << 32) - 1), st.just(U32)),
    st.builds(number, KEYS, st.integers(0, 3), st.just(U8)),
    st.builds(numbers, KEYS, st.lists(st.booleans(), max_size=4), st.just(BOOL)),
    st.builds(words, KEYS, st.sampled_from(["llama", "", "\ufffd", "\0\n"])),
    st.builds(texts, KEYS, st.lists(st.text(max_size=3), max_size=4)),
    st.builds(raw_entry, KEYS, st.binary(max_size=24)),
)


def judge(path: Path, raw: bytes) -> None:
    """Read what lies in `raw`; only a GgufError may come out, on one line."""
    path.write_bytes(raw)
    try:
        model = read_gguf(path)
        shape = shape_of(model)
        weights = weights_of(model.tensors, shape.layers)
    except GgufError as error:
        assert str(error).startswith(f"cannot read {path.parent}{os.sep}")  # noqa: PT017 - either end is right
        assert str(error).isprintable()  # noqa: PT017
        assert len(str(error)) < 600  # noqa: PT017
        return
    assert 0 < shape.layers <= 1024
    assert weights.total_bytes <= model.file_bytes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m-00001-of-00002.gguf"


def edited(raw: bytes, edits: list[tuple[int, bytes]]) -> bytes:
    changed = bytearray(raw)
    for place, piece in edits:
        start = place % len(changed)
        changed[start : start + len(piece)] = piece
    return bytes(changed)


@QUIET
@given(st.sampled_from(GOOD), EDITS, st.none() | st.integers(0, 9000))
def test_a_good_file_with_bytes_changed_is_read_or_refused(
    path: Path, raw: bytes, edits: list[tuple[int, bytes]], cut: int | None
) -> None:
    judge(path, edited(raw, edits)[:cut])


@QUIET
@given(st.lists(ENTRIES, max_size=8))
def test_any_metadata_is_read_or_refused(path: Path, entries: list[bytes]) -> None:
    judge(path, encoded([words("general.architecture", "llama"), *entries], TENSORS[:1]))


@QUIET
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_are_refused(path: Path, raw: bytes, headed: bool) -> None:  # noqa: FBT001
    judge(path, b"GGUF\x03\0\0\0" + raw if headed else raw)
