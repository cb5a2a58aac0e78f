"""Sizes and spans short enough for a table: `2.27G`, `1h12m`."""

from typing import Final

UNITS: Final = "BKMGTPE"
PARTS: Final = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def size(size_bytes: int) -> str:
    """Write a size in three digits, base 1024, as the configuration takes it: `812M`, `2.27G`."""
    value, unit = float(size_bytes), 0
    while round(value) >= 1000 and unit < len(UNITS) - 1:  # noqa: PLR2004 - three digits
        value, unit = value / 1024, unit + 1
    digits = f"{value:.0f}" if unit == 0 else f"{value:.3g}"
    return f"{digits}{UNITS[unit]}"


def span(span_s: float) -> str:
    """Write a span by its two largest units: `74s` is `1m14s`, `3600` is `1h`."""
    left = max(0, int(span_s))
    for index, (unit, length) in enumerate(PARTS):
        if left >= length:
            whole, rest = divmod(left, length)
            if index + 1 == len(PARTS):
                return f"{whole}{unit}"
            smaller, step = PARTS[index + 1]
            return f"{whole}{unit}{rest // step}{smaller}" if rest // step else f"{whole}{unit}"
    return "0s"
