"""A model's sizes are gathered from its metadata: with llama.cpp's defaults, and none that are absurd."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from supervisor.llama.gguf import GgufError, read_gguf
from supervisor.llama.shape import Experts, Latent, Recurrent, Rope, Shape, Sliding, shape_of
from support.llama.gguf_files import BOOL, F32, LLAMA, number, numbers, texts, words, written

BARE = (
    words("general.architecture", "qwen2"),
    number("qwen2.block_count", 3),
    number("qwen2.embedding_length", 96),
)


def shape(tmp_path: Path, keys: Sequence[bytes]) -> Shape:
    return shape_of(read_gguf(written(tmp_path / "m.gguf", keys)))


def test_the_shape_of_a_plain_model(tmp_path: Path) -> None:
    assert shape(tmp_path, LLAMA) == Shape(
        architecture="llama",
        layers=2,
        embedding_length=64,
        context_length=4096,
        vocabulary=3,
        heads=(4, 4),
        kv_heads=(2, 2),
        key_length=16,
        value_length=16,
        feed_forward_lengths=(128, 128),
        shared_kv_layers=0,
        predict_layers=0,
        full_attention_interval=None,
        latent=None,
        sliding=None,
        experts=None,
        recurrent=None,
        rope=Rope(None, 10000.0, None, None, None),
        file_type=1,
    )


def test_numbers_may_differ_from_layer_to_layer(tmp_path: Path) -> None:
    keys = [
        *BARE,
        numbers("qwen2.attention.head_count", [0, 8, 4]),
        numbers("qwen2.attention.head_count_kv", [0, 2, 1]),
        numbers("qwen2.feed_forward_length", [16, 32, 64]),
    ]
    found = shape(tmp_path, keys)
    assert found.heads == (0, 8, 4)
    assert found.kv_heads == (0, 2, 1)
    assert found.feed_forward_lengths == (16, 32, 64)
    assert found.key_length == 12


def test_key_and_value_lengths_that_are_given_win(tmp_path: Path) -> None:
    lengths = [number("qwen2.attention.key_length", 128), number("qwen2.attention.value_length", 64)]
    found = shape(tmp_path, [*BARE, number("qwen2.attention.head_count", 8), *lengths])
    assert (found.key_length, found.value_length) == (128, 64)
    assert found.kv_heads == (8, 8, 8)


def test_a_model_without_attention_has_no_heads(tmp_path: Path) -> None:
    sizes = {"conv_kernel": 4, "inner_size": 192, "state_size": 16, "time_step_rank": 6, "group_count": 1}
    found = shape(tmp_path, [*BARE, *(number(f"qwen2.ssm.{key}", size) for key, size in sizes.items())])
    assert (found.heads, found.key_length) == ((0, 0, 0), 0)
    assert found.recurrent == Recurrent(4, 192, 16, 6, 1)


def test_latent_attention_and_experts_are_told(tmp_path: Path) -> None:
    sizes = {
        "attention.kv_lora_rank": 512,
        "attention.q_lora_rank": 1536,
        "attention.key_length_mla": 192,
        "attention.value_length_mla": 128,
        "expert_count": 64,
        "expert_used_count": 6,
        "expert_shared_count": 2,
        "expert_feed_forward_length": 1408,
        "leading_dense_block_count": 1,
        "nextn_predict_layers": 1,
    }
    found = shape(tmp_path, [*BARE, *(number(f"qwen2.{key}", size) for key, size in sizes.items())])
    assert found.latent == Latent(512, 1536, 192, 128)
    assert found.experts == Experts(64, 6, 2, 1408, 1)
    assert found.predict_layers == 1


def test_a_sliding_window_has_a_pattern_by_layer_or_by_number(tmp_path: Path) -> None:
    window = number("qwen2.attention.sliding_window", 1024)
    by_layer = numbers("qwen2.attention.sliding_window_pattern", [True, True, False], BOOL)
    assert shape(tmp_path, [*BARE, window, by_layer]).sliding == Sliding(
        1024, (True, True, False), None, None
    )

    by_number = number("qwen2.attention.sliding_window_pattern", 6)
    swa = [number("qwen2.attention.key_length_swa", 256), number("qwen2.attention.value_length_swa", 256)]
    assert shape(tmp_path, [*BARE, window, by_number, *swa]).sliding == Sliding(1024, 6, 256, 256)
    assert shape(tmp_path, [*BARE, window]).sliding == Sliding(1024, None, None, None)


def test_the_rope_is_told(tmp_path: Path) -> None:
    keys = [
        number("qwen2.rope.dimension_count", 32),
        number("qwen2.rope.freq_base", 500000.0, F32),
        words("qwen2.rope.scaling.type", "yarn"),
        number("qwen2.rope.scaling.factor", 4.0, F32),
        number("qwen2.rope.scaling.original_context_length", 32768),
    ]
    assert shape(tmp_path, [*BARE, *keys]).rope == Rope(32, 500000.0, "yarn", 4.0, 32768)


def test_the_vocabulary_is_the_tokenizers_before_it_is_the_keys(tmp_path: Path) -> None:
    size = number("qwen2.vocab_size", 1000)
    assert shape(tmp_path, [*BARE, size]).vocabulary == 1000
    assert shape(tmp_path, [*BARE, size, texts("tokenizer.ggml.tokens", ["a", "b"])]).vocabulary == 2
    assert shape(tmp_path, BARE).vocabulary is None


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ([], "it has no general.architecture"),
        ([number("general.architecture", 7)], "it has no general.architecture"),
        ([BARE[0]], "its qwen2.block_count is missing"),
        ([BARE[0], number("qwen2.block_count", 0)], "its qwen2.block_count is 0, not from 1 to 1024"),
        (
            [BARE[0], number("qwen2.block_count", 4000000000)],
            "its qwen2.block_count is 4000000000, not from 0 to 2147483647",
        ),
        ([BARE[0], number("qwen2.block_count", 1025)], "its qwen2.block_count is 1025, not from 1 to 1024"),
        ([BARE[0], words("qwen2.block_count", "3")], "its qwen2.block_count is no whole number"),
        ([*BARE, number("qwen2.context_length", 512.0, F32)], "its qwen2.context_length is no whole number"),
        (
            [*BARE, number("qwen2.context_length", 4294967295)],
            "its qwen2.context_length is 4294967295, not from 0 to 2147483647",
        ),
        (
            [*BARE, numbers("qwen2.attention.head_count", [4, 4])],
            "its qwen2.attention.head_count has 2 items, and there are 3 layers",
        ),
        (
            [*BARE, numbers("qwen2.attention.head_count", [4] * 2000)],
            "its qwen2.attention.head_count has 2000 items, and there are 3 layers",
        ),
        (
            [*BARE, numbers("qwen2.attention.head_count", [4, -4, 4])],
            "its qwen2.attention.head_count is -4, not from 0 to 2147483647",
        ),
        (
            [*BARE, numbers("qwen2.attention.sliding_window_pattern", [1, 0], BOOL)],
            "its qwen2.attention.sliding_window_pattern has 2 items, and there are 3 layers",
        ),
        (
            [*BARE, number("qwen2.rope.freq_base", float("nan"), F32)],
            "its qwen2.rope.freq_base is no finite number",
        ),
        ([*BARE, number("qwen2.rope.scaling.type", 1)], "its qwen2.rope.scaling.type is no text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_size_that_is_missing_or_absurd_is_named(tmp_path: Path, keys: list[bytes], why: str) -> None:
    with pytest.raises(GgufError) as caught:
        shape(tmp_path, keys)
    assert str(caught.value) == f"cannot read {tmp_path / 'm.gguf'}: {why}"
