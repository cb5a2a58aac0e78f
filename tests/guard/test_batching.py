import pytest

from supervisor.guard.batching import Asked, Batching, decide, sizes_of
from supervisor.guard.sizes import Sizes


def test_without_a_word_from_anybody_the_documented_defaults_hold() -> None:
    assert decide(Asked(), {}) == Batching(0.85, 1, 3, 1.0, None)
    assert decide(Asked(), {"MAX_RETRIES": " ", "ML_INFERENCE_TIMEOUT": ""}) == Batching(
        0.85, 1, 3, 1.0, None
    )


def test_the_environment_is_in_percent_milliseconds_and_seconds() -> None:
    environment = {
        "GPU_MEMORY_THRESHOLD": "70",
        "MIN_BATCH_SIZE": "2",
        "MAX_RETRIES": "0",
        "FALLBACK_DELAY_MS": "250",
        "ML_INFERENCE_TIMEOUT": "30",
    }
    assert decide(Asked(), environment) == Batching(pytest.approx(0.7), 2, 0, 0.25, 30.0)  # type: ignore[arg-type]
    said = Asked(0.5, 3, 1, 0.0, 9.0)
    assert decide(said, environment) == Batching(0.5, 3, 1, 0.0, 9.0)


def test_a_call_may_take_a_minute_for_each_item_unless_a_timeout_is_set() -> None:
    assert decide(Asked(), {}).limit_s(12) == 720.0
    assert decide(Asked(timeout_s=5.0), {}).limit_s(12) == 5.0


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("GPU_MEMORY_THRESHOLD", "high", "a number from 1 up to 100"),
        ("GPU_MEMORY_THRESHOLD", "0", "a number from 1 up to 100"),
        ("GPU_MEMORY_THRESHOLD", "101", "a number from 1 up to 100"),
        ("MIN_BATCH_SIZE", "0", "a whole number from 1"),
        ("MIN_BATCH_SIZE", "1.5", "a whole number from 1"),
        ("MAX_RETRIES", "-1", "a whole number from 0"),
        ("MAX_RETRIES", "nan", "a whole number from 0"),
        ("FALLBACK_DELAY_MS", "-1", "a number from 0"),
        ("FALLBACK_DELAY_MS", "inf", "a number from 0"),
        ("ML_INFERENCE_TIMEOUT", "0", "a number from 0.001"),
        ("ML_INFERENCE_TIMEOUT", "60s", "a number from 0.001"),
    ],
)
def test_a_wrong_variable_is_named_with_what_it_should_be(name: str, value: str, what: str) -> None:
    with pytest.raises(ValueError, match=f"^cannot run batches with {name}='{value}': it is {what}$"):
        decide(Asked(), {name: value})


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (Asked(threshold=85), "threshold=85: it is a number from 0.01 up to 1"),
        (Asked(min_batch_size=0), "min_batch_size=0: it is a whole number from 1"),
        (Asked(max_retries=-1), "max_retries=-1: it is a whole number from 0"),
        (Asked(fallback_delay_s=-0.5), "fallback_delay_s=-0.5: it is a number from 0"),
        (Asked(timeout_s=0), "timeout_s=0: it is a number from 0.001"),
    ],
)
def test_a_wrong_argument_is_named_too(asked: Asked, why: str) -> None:
    with pytest.raises(ValueError, match=f"^cannot run batches with {why}$"):
        decide(asked, {})


def test_fallback_sizes_may_be_given_in_any_order_and_twice() -> None:
    assert sizes_of(12, [1, 6, 3, 6], 1, None) == Sizes(12, (6, 3, 1), 1, None)
