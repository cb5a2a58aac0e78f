"""Sizes, time spans and percentages as systemd writes them; bytes, seconds and fractions inside."""

import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Final

_NUMBER: Final = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_SIZE: Final = re.compile(rf"({_NUMBER})\s*([A-Za-z]*)", re.ASCII)
_PERCENT: Final = re.compile(rf"({_NUMBER})\s*%", re.ASCII)
_SPAN_PART: Final = re.compile(rf"\s*({_NUMBER})\s*([A-Za-zµμ]*)")

_LONGEST_TEXT: Final = 100  # nobody writes more, and arithmetic on a million digits is slow
_LARGEST_SIZE: Final = 2**63 - 1  # the kernel keeps sizes in a signed 64-bit number
_LONGEST_SPAN_S: Final = 2**63 // 1_000_000  # systemd keeps spans in microseconds

_PREFIXES: Final = "KMGTPE"
_SIZE_UNITS: Final[Mapping[str, int]] = {
    "": 1,
    "b": 1,
    **{prefix.lower(): 1024**power for power, prefix in enumerate(_PREFIXES, 1)},
    **{f"{prefix.lower()}ib": 1024**power for power, prefix in enumerate(_PREFIXES, 1)},
    **{f"{prefix.lower()}b": 1000**power for power, prefix in enumerate(_PREFIXES, 1)},
}

# systemd.time(7); `m` is minutes and `M` months there, so case counts
_SPAN_UNITS: Final[Mapping[str, Fraction]] = {
    unit: Fraction(seconds)
    for units, seconds in (
        ("usec us µs μs", "1/1000000"),
        ("msec ms", "1/1000"),
        ("seconds second sec s", "1"),
        ("minutes minute min m", "60"),
        ("hours hour hr h", "3600"),
        ("days day d", "86400"),
        ("weeks week w", "604800"),
        ("months month M", "2629800"),  # 30.4375 days
        ("years year y", "31557600"),  # 365.25 days
    )
    for unit in units.split()
}


def _stripped(text: str, kind: str, example: str) -> str:
    """Return `text` without the space around it; raise ValueError where nothing, or far too much, is left."""
    stripped = text.strip()
    if not stripped:
        raise ValueError(f"empty is not {kind}: write {example}")
    if len(stripped) > _LONGEST_TEXT:
        raise ValueError(f"{stripped[:20]}... is too long for {kind}")
    if stripped.startswith("-"):
        raise ValueError(f"{stripped} is negative: write {example}")
    return stripped


def parse_size(text: str) -> int:
    """Read a size in bytes: `8G` and `8GiB` are base 1024, `8GB` is base 1000, a bare number is bytes.

    Parts of a byte are dropped. Raises ValueError with a sentence for people.
    """
    stripped = _stripped(text, "a size", "8G, 512M or a number of bytes")
    match = _SIZE.fullmatch(stripped)
    factor = None if match is None else _SIZE_UNITS.get(match[2].lower())
    if match is None or factor is None:
        raise ValueError(f"{stripped!r} is not a size: write 8G, 512M or a number of bytes")
    size = math.floor(Fraction(match[1]) * factor)
    if size > _LARGEST_SIZE:
        raise ValueError(f"{stripped} is more than 8EiB")
    return size


def parse_span(text: str) -> float:
    """Read a time span in seconds: `90`, `2s`, `1min 30s`, `1.5h`; the units are those of systemd.time(7).

    Raises ValueError with a sentence for people.
    """
    stripped = _stripped(text, "a time span", "30s, 1min 30s or 1h")
    total, position = Fraction(0), 0
    while position < len(stripped):
        match = _SPAN_PART.match(stripped, position)
        factor = None if match is None else _SPAN_UNITS.get(match[2] or "s")
        if match is None or factor is None:
            raise ValueError(f"{stripped!r} is not a time span: write 30s, 1min 30s or 1h")
        total += Fraction(match[1]) * factor
        position = match.end()
    if total > _LONGEST_SPAN_S:
        raise ValueError(f"{stripped} is too long a time span")
    return float(total)


def parse_percent(text: str) -> float:
    """Read a percentage as a fraction: `85%` is 0.85, `600%` is 6.0.

    A bare number is refused, since 0.85 and 85 would mean the same to different people.
    """
    stripped = _stripped(text, "a percentage", "85%")
    match = _PERCENT.fullmatch(stripped)
    if match is None:
        raise ValueError(f"{stripped!r} is not a percentage: write 85%, with its sign")
    return float(Fraction(match[1]) / 100)


def format_size(size_bytes: int) -> str:
    """Write a size for people, base 1024, with two decimals at most: `2.27GiB`, `8GiB`, `512B`."""
    if size_bytes < 0:
        return f"-{format_size(-size_bytes)}"
    value, unit = float(size_bytes), ""
    for prefix in _PREFIXES:
        if round(value, 2) < 1024:  # noqa: PLR2004 - 1023.999 would be written as 1024
            break
        value, unit = value / 1024, f"{prefix}i"
    digits = f"{value:.2f}".rstrip("0").rstrip(".")
    return f"{digits}{unit}B"


def format_span(span_s: float) -> str:
    """Write a time span for people: `1min 30s`, `1h`, `500ms`; whole seconds from a minute on.

    Below a minute it is exact to the millisecond, below a millisecond to the microsecond.
    """
    if span_s < 0:
        return f"-{format_span(-span_s)}"
    step = 1_000_000 if span_s >= 60 else 1000 if span_s >= 0.001 else 1  # noqa: PLR2004 - as the sentence above says
    left = round(span_s * 1_000_000 / step) * step
    parts: list[str] = []
    for unit, length in (("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count}{unit}")
    for unit, length in (("ms", 1000), ("us", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0s"


def format_percent(fraction: float) -> str:
    """Write a fraction as a percentage with two decimals at most: 0.85 is `85%`, 6.0 is `600%`."""
    return f"{round(fraction * 100, 2):g}%"
