"""What each layer of a model remembers, by its architecture."""

import pytest
from msgspec.structs import replace

from supervisor.llama.layers import Kind, kinds_of
from supervisor.llama.shape import Sliding
from support.llama.models import shape_of_llama

LETTERS = {Kind.FULL: "F", Kind.WINDOW: "w", Kind.STATE: "s", Kind.BOTH: "B", Kind.NONE: "-"}


def shown(kinds: tuple[Kind, ...]) -> str:
    return "".join(LETTERS[kind] for kind in kinds)


@pytest.mark.parametrize(
    ("architecture", "pattern", "expected"),
    [
        ("gemma3", None, "wwwwwFww"),
        ("gemma3", 2, "wFwFwFwF"),
        ("gemma2", None, "wFwFwFwF"),
        ("gpt-oss", None, "wFwFwFwF"),
        ("cohere2", None, "wwwFwwwF"),
        ("smallthinker", None, "FwwwFwww"),
        ("gemma3", 0, "wwwwwwww"),
        ("gemma3", (True, False) * 4, "wFwFwFwF"),
        ("gemma4", (True, True, False, False) * 2, "wwFFwwFF"),
        ("gemma4", None, "FFFFFFFF"),
        ("llama", None, "FFFFFFFF"),  # names a window and does not use it
        ("unheard-of", None, "FFFFFFFF"),
    ],
)
def test_windows_follow_the_pattern_of_the_architecture(
    architecture: str, pattern: tuple[bool, ...] | int | None, expected: str
) -> None:
    shape = replace(shape_of_llama(8, architecture=architecture), sliding=Sliding(512, pattern, None, None))
    assert shown(kinds_of(shape)) == expected


@pytest.mark.parametrize(
    ("architecture", "kv_heads", "expected"),
    [
        ("mamba2", (0, 0, 0, 0), "ssss"),
        ("jamba", (0, 0, 2, 0), "ssFs"),
        ("deci", (2, 0, 2, 2), "F-FF"),
        ("falcon-h1", (2, 2, 2, 2), "BBBB"),
        ("qwen3next", (2, 2, 2, 2), "sssF"),
    ],
)
def test_hybrids_have_a_state_where_they_do_not_attend(
    architecture: str, kv_heads: tuple[int, ...], expected: str
) -> None:
    shape = replace(shape_of_llama(4, architecture=architecture), kv_heads=kv_heads)
    assert shown(kinds_of(shape)) == expected


def test_a_layer_of_nemotron_h_that_only_feeds_forward_remembers_nothing() -> None:
    shape = replace(
        shape_of_llama(3, architecture="nemotron_h"), kv_heads=(0, 0, 2), feed_forward_lengths=(0, 512, 0)
    )
    assert shown(kinds_of(shape)) == "s-F"


def test_layers_that_share_a_cache_or_predict_further_tokens_have_none() -> None:
    assert shown(kinds_of(replace(shape_of_llama(6), shared_kv_layers=2))) == "FFFF--"
    assert shown(kinds_of(replace(shape_of_llama(6), predict_layers=1))) == "FFFFF-"
