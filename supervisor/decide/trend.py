"""Whether the idle memory of a life rises: a robust slope over floors, with its confidence.

A leak and load look alike in single readings. They differ in the floors: the lowest reading of a stretch is
what a worker holds when it rests, and only a leak lifts that. A life keeps at most `MOST_FLOORS` of them;
when there are as many, stretches become twice as wide and their floors are merged, so a week costs as much
as an hour.

The slope is the median of the slopes of all pairs of floors (Theil 1950), with the confidence interval of
Sen (1968) from the variance of Kendall's S, as in Gilbert, Statistical Methods for Environmental Pollution
Monitoring (1987), section 16.5. It stands up to 29 % of outliers, and its lower limit is above zero where
the Mann-Kendall test finds a rise. Floors that hang together make that test too sure (Yue and Wang 2004,
doi 10.1023/B:WARM.0000043140.61082.60), and caches fill up in a straight line at first. So four things more
are asked of a rise:

* its last half has to rise too, and the flatter of both slopes counts: what fills up grows ever more slowly;
* it goes beyond every floor before it: a sawtooth comes back to where it has been;
* it is worth `LEAST_RISE` of the cap;
* it is told only once the cap is nearer than `REACH` of the time in which it was seen: a line is not drawn
  out further than the floors carry it. What fills up like 1 - exp(-t/T) and stops at seven eighths of the
  room or below, never comes that near; a steady leak is found when a third of its way is left.
"""

from collections.abc import Sequence
from itertools import combinations
from math import sqrt
from statistics import median
from typing import Final

from supervisor.model.reading import Missing
from supervisor.model.trend import Floor, Growth, Trend

MOST_FLOORS: Final = 64
# Too few readings show no floor: the worker may have been at work in each of them.
LEAST_READINGS: Final = 3
# With fewer floors the interval of their last half has no limit.
LEAST_FLOORS: Final = 16
# Two-sided 99.9 %: in a life of weeks the question is put some 200 times.
CONFIDENCE_Z: Final = 3.29
# Of the slope: a staircase has a slope, and an interval that all but touches zero.
LEAST_SURE: Final = 0.25
LEAST_RISE: Final = 0.02
REACH: Final = 0.5


def take(trend: Trend, reading: int | Missing, read_s: float, shortest_s: float) -> Trend:
    """Return the trend with this reading in it; what is missing, stale or behind a gap adds nothing.

    A stretch takes `shortest_s` at least. One with a gap as long as itself is dropped. The result has
    another `floors` where a stretch has ended.
    """
    if isinstance(reading, Missing) or read_s <= trend.read_s:
        return trend
    width_s = max(trend.width_s, shortest_s)
    if trend.readings == 0 or read_s - trend.read_s > width_s:
        return _opened(trend, trend.floors, width_s, (reading, reading, read_s))
    held = min(reading, trend.last_bytes)
    if read_s - trend.opened_s >= width_s:
        floors = trend.floors
        if trend.readings >= LEAST_READINGS:
            floors = (*floors, Floor(trend.low_s, trend.low_bytes, trend.held_bytes))
        if len(floors) >= MOST_FLOORS:
            width_s *= 2
            floors = merged(floors, width_s)
        return _opened(trend, floors, width_s, (reading, held, read_s))
    lower = reading < trend.low_bytes
    return Trend(
        width_s,
        trend.floors,
        trend.growth,
        trend.opened_s,
        read_s,
        trend.readings + 1,
        reading,
        reading if lower else trend.low_bytes,
        read_s if lower else trend.low_s,
        max(held, trend.held_bytes),
    )


def _opened(trend: Trend, floors: tuple[Floor, ...], width_s: float, first: tuple[int, int, float]) -> Trend:
    reading, held, read_s = first
    return Trend(width_s, floors, trend.growth, read_s, read_s, 1, reading, reading, read_s, held)


def merged(floors: Sequence[Floor], width_s: float) -> tuple[Floor, ...]:
    """Return one floor for each stretch of `width_s`: the lowest of its floors, the highest that was held."""
    found: list[Floor] = []
    for one in floors:
        if found and found[-1].at_s // width_s == one.at_s // width_s:
            lower = min(found[-1], one, key=lambda floor: floor.low_bytes)
            held = max(found[-1].held_bytes, one.held_bytes)
            found[-1] = Floor(lower.at_s, lower.low_bytes, held)
        else:
            found.append(one)
    return tuple(found)


def slope_of(floors: Sequence[Floor]) -> tuple[float, float, float]:
    """Return the slope of some floors, its least and its most at 99.9 % confidence, in bytes a second."""
    count = len(floors)
    slopes = sorted((b.low_bytes - a.low_bytes) / (b.at_s - a.at_s) for a, b in combinations(floors, 2))
    # The variance without a term for ties: larger than the exact one, so that steps are trusted less.
    spread = CONFIDENCE_Z * sqrt(count * (count - 1) * (2 * count + 5) / 18)
    least = max(int((len(slopes) - spread) / 2) - 1, 0)
    return median(slopes), slopes[least], slopes[-1 - least]


def growth_of(floors: Sequence[Floor], cap_bytes: int, plateau_bytes: int = 0) -> Growth | None:
    """Return the rise that heads for the cap, or None where there is none to speak of.

    Looks at all floors, then at the last half and the last quarter of them: a leak may begin late.
    The first `plateau_bytes` of growth are expected where they fit below the cap.
    """
    count = len(floors)
    while count >= LEAST_FLOORS:
        found = _rise(floors[-count:], floors[:-count], cap_bytes)
        if found is not None:
            expected = floors[0].low_bytes + plateau_bytes
            fits = plateau_bytes > 0 and expected + found.swing_bytes <= cap_bytes
            return None if fits and found.level_bytes <= expected else found
        count //= 2
    return None


def _rise(floors: Sequence[Floor], before: Sequence[Floor], cap_bytes: int) -> Growth | None:
    half, quarter = floors[len(floors) // 2 :], len(floors) // 4
    now = _middle(floors[-quarter:])
    rise = now - _middle(floors[:quarter])
    if rise < cap_bytes * LEAST_RISE:  # most lives end here, and no pairs are compared
        return None
    swing = int(median(one.held_bytes - one.low_bytes for one in half))
    if rise < cap_bytes - swing - now:  # cheap, and true of all that passes below
        return None
    if before and now <= max(one.low_bytes for one in before):
        return None
    whole, recent = slope_of(floors), slope_of(half)
    slope, least = min(whole[0], recent[0]), min(whole[1], recent[1])
    if least <= slope * LEAST_SURE:
        return None
    since_s, at_s = floors[0].at_s, floors[-1].at_s
    level = int(median(one.low_bytes + slope * (at_s - one.at_s) for one in half))
    # A stretch that rises begins at its lowest and ends at its highest: that much of it is no load.
    swing = max(0, swing - int(slope * (at_s - since_s) / (len(floors) - 1)))
    if cap_bytes - swing - level > slope * (at_s - since_s) * REACH:
        return None
    return Growth(slope, least, max(whole[2], recent[2]), since_s, at_s, level, swing)


def _middle(floors: Sequence[Floor]) -> float:
    return median(one.low_bytes for one in floors)
