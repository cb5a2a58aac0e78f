"""Sizes, spans and percentages."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.model.quantity import (
    format_percent,
    format_size,
    format_span,
    parse_percent,
    parse_size,
    parse_span,
)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("8G", 8_589_934_592),
        ("8GiB", 8_589_934_592),
        ("8gib", 8_589_934_592),
        ("8 G", 8_589_934_592),
        ("8GB", 8_000_000_000),
        ("8.5G", 9_126_805_504),
        (".5K", 512),
        ("512M", 536_870_912),
        ("12B", 12),
        ("1.5", 1),
        ("1T", 1_099_511_627_776),
        ("7E", 8_070_450_532_247_928_832),
    ],
)
def test_a_size_is_base_1024_unless_it_ends_in_b_alone(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty is not a size: write 8G, 512M or a number of bytes"),
        ("  ", "empty is not a size: write 8G, 512M or a number of bytes"),
        ("-1G", "-1G is negative: write 8G, 512M or a number of bytes"),
        ("nan", "'nan' is not a size: write 8G, 512M or a number of bytes"),
        ("inf", "'inf' is not a size: write 8G, 512M or a number of bytes"),
        ("8X", "'8X' is not a size: write 8G, 512M or a number of bytes"),
        ("8iB", "'8iB' is not a size: write 8G, 512M or a number of bytes"),
        ("G", "'G' is not a size: write 8G, 512M or a number of bytes"),
        ("1e9", "'1e9' is not a size: write 8G, 512M or a number of bytes"),
        ("8G 1M", "'8G 1M' is not a size: write 8G, 512M or a number of bytes"),
        ("٣G", "'٣G' is not a size: write 8G, 512M or a number of bytes"),
        ("8E", "8E is more than 8EiB"),
        ("9" * 101, "99999999999999999999... is too long for a size"),
    ],
)
def test_what_is_no_size_is_refused_in_words(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(why)}$"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "span_s"),
    [
        ("90", 90.0),
        ("2s", 2.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("1min 30s", 90.0),
        ("1min30s", 90.0),
        ("1min 30", 90.0),
        ("1h", 3600.0),
        ("1.5h", 5400.0),
        ("500ms", 0.5),
        ("20us", 0.00002),
        ("20µs", 0.00002),
        ("2 days 3 hours", 183_600.0),
        ("1w", 604_800.0),
        ("5m", 300.0),
        ("1M", 2_629_800.0),
        ("1y", 31_557_600.0),
        ("3 seconds", 3.0),
    ],
)
def test_a_span_is_read_as_systemd_reads_it(text: str, span_s: float) -> None:
    assert parse_span(text) == span_s


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty is not a time span: write 30s, 1min 30s or 1h"),
        ("-5s", "-5s is negative: write 30s, 1min 30s or 1h"),
        ("nan", "'nan' is not a time span: write 30s, 1min 30s or 1h"),
        ("infinity", "'infinity' is not a time span: write 30s, 1min 30s or 1h"),
        ("1:30", "'1:30' is not a time span: write 30s, 1min 30s or 1h"),
        ("1h -5min", "'1h -5min' is not a time span: write 30s, 1min 30s or 1h"),
        ("5 parsecs", "'5 parsecs' is not a time span: write 30s, 1min 30s or 1h"),
        ("999999999y", "999999999y is too long a time span"),
    ],
)
def test_what_is_no_span_is_refused_in_words(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(why)}$"):
        parse_span(text)


def test_a_percentage_is_a_fraction() -> None:
    assert parse_percent("85%") == 0.85
    assert parse_percent("600 %") == 6.0
    assert parse_percent("0.5%") == 0.005


@pytest.mark.parametrize("text", ["", "85", "0.85", "-5%", "nan%", "%", "85%%", "1e2%"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write 85%"):
        parse_percent(text)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0B"),
        (512, "512B"),
        (1024, "1KiB"),
        (2_437_393_940, "2.27GiB"),
        (8_589_934_592, "8GiB"),
        (1_073_741_823, "1GiB"),
        (1_048_575, "1MiB"),
        (-2048, "-2KiB"),
        (9_223_372_036_854_775_807, "8EiB"),
    ],
)
def test_a_size_is_written_with_two_decimals_at_most(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


@pytest.mark.parametrize(
    ("span_s", "text"),
    [
        (0.0, "0s"),
        (0.5, "500ms"),
        (0.00002, "20us"),
        (2.0, "2s"),
        (1.5, "1s 500ms"),
        (90.0, "1min 30s"),
        (74.123456, "1min 14s"),
        (59.9999, "1min"),
        (3600.0, "1h"),
        (3661.0, "1h 1min 1s"),
        (183_600.0, "2d 3h"),
        (-90.0, "-1min 30s"),
    ],
)
def test_a_span_is_written_as_systemd_writes_it(span_s: float, text: str) -> None:
    assert format_span(span_s) == text


def test_a_fraction_is_written_as_a_percentage() -> None:
    assert [format_percent(fraction) for fraction in (0.85, 6.0, 0.005, 1 / 3)] == [
        "85%",
        "600%",
        "0.5%",
        "33.33%",
    ]


@given(st.integers(0, 100_000_000))
def test_a_span_that_was_written_reads_the_same(span_s: int) -> None:
    assert parse_span(format_span(span_s)) == span_s


@given(st.text(max_size=120))
def test_any_text_is_read_or_refused_with_a_reason(text: str) -> None:
    for parse in (parse_size, parse_span, parse_percent):
        why = ""
        value = 0.0
        try:
            value = parse(text)
        except ValueError as error:
            why = str(error)
        assert value >= 0
        assert not why or "write" in why or "too long" in why or "more than 8EiB" in why
