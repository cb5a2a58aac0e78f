import pytest

from supervisor.cli.figures import size, span


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "0.977K"),
        (1024, "1K"),
        (812 << 20, "812M"),
        (2437393940, "2.27G"),
        (8 << 30, "8G"),
        (139 << 30, "139G"),
        (999 << 30, "999G"),
        (1000 << 30, "0.977T"),
        (5 << 60, "5E"),
    ],
)
def test_a_size_has_three_digits_and_a_letter(size_bytes: int, text: str) -> None:
    assert size(size_bytes) == text


@pytest.mark.parametrize(
    ("span_s", "text"),
    [
        (-5.0, "0s"),
        (0.4, "0s"),
        (59.9, "59s"),
        (74.0, "1m14s"),
        (3600.0, "1h"),
        (3660.0, "1h1m"),
        (86399.0, "23h59m"),
        (86400.0, "1d"),
        (90061.0, "1d1h"),
    ],
)
def test_a_span_has_two_units(span_s: float, text: str) -> None:
    assert span(span_s) == text
