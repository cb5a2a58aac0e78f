"""Small pictures made of characters: a bar, and the course of the last hour."""

from collections.abc import Sequence
from typing import Final

# The eighths of a cell, as far as it is filled: Unicode's block elements.
EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
HEIGHTS: Final = "▁▂▃▄▅▆▇█"
UNKNOWN: Final = "·"


def bar(part: float | None, width: int) -> str:
    """Return a bar of `width` cells that is full at 1.0; of a part that is unknown, dots."""
    if part is None:
        return UNKNOWN * width
    eighths = round(min(max(part, 0.0), 1.0) * width * 8)
    whole, rest = divmod(eighths, 8)
    return (EIGHTHS[8] * whole + (EIGHTHS[rest] if rest else "")).ljust(width, "░")


def sparkline(values: Sequence[float | None], width: int) -> str:
    """Return the newest `width` values as heights over zero; a gap is a dot.

    They share one scale, from zero to the highest, so that a steady worker is a flat line.
    """
    shown = values[-width:]
    highest = max((value for value in shown if value is not None), default=0.0)
    return "".join(_height(value, highest) for value in shown).rjust(width)


def _height(value: float | None, highest: float) -> str:
    if value is None:
        return UNKNOWN
    if highest <= 0.0:
        return HEIGHTS[0]
    return HEIGHTS[min(len(HEIGHTS) - 1, int(value / highest * (len(HEIGHTS) - 1) + 0.5))]
