"""Memory of a worker over time, made from a seed: what leaks, and what only looks as if it did.

Each trace is readings every `STEP_S` with the worker's idle floor and the load on top of it. `CAP` is the cap
that they are judged against.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Final

from msgspec import Struct

MIB: Final = 1 << 20
CAP: Final = 8 << 30
BASE: Final = 2 << 30
ROOM: Final = CAP - BASE
STEP_S: Final = 20.0  # coarser than a look, so that a thousand traces take seconds

Level = Callable[[float], float]


class Trace(Struct, frozen=True):
    """Readings, oldest first, each with its time in seconds."""

    kind: str
    readings: tuple[tuple[float, int], ...]


def _load(random: Random) -> Level:
    """Return bursts of requests with rests between them: in each a cache fills, and is freed."""
    height, period_s = random.uniform(0, 0.15) * ROOM, random.uniform(30, 900)
    duty = random.uniform(0.1, 0.8)

    def at(at_s: float) -> float:
        part = at_s % period_s / period_s
        return height * part / duty if part < duty else 0.0

    return at


def _sampled(kind: str, random: Random, floor: Level, length_s: float) -> Trace:
    load, noise = _load(random), random.uniform(0, 0.004) * ROOM
    steps = int(length_s / STEP_S)
    times = [(at + 1) * STEP_S for at in range(steps)]
    readings = [
        (at_s, int(max(BASE / 2, BASE + floor(at_s) + load(at_s) + random.gauss(0, noise)))) for at_s in times
    ]
    return Trace(kind, tuple(readings))


def flat(random: Random, length_s: float) -> Level:
    """Return a level that stays."""
    del random, length_s
    return lambda at_s: 0.0 * at_s


def cache(random: Random, length_s: float) -> Level:
    """Return a cache that fills ever more slowly, up to 60 % of the room."""
    top, slowness_s = random.uniform(0.1, 0.6) * ROOM, random.uniform(0.02, 0.5) * length_s
    return lambda at_s: top * (1 - math.exp(-at_s / slowness_s))


def straight_cache(random: Random, length_s: float) -> Level:
    """Return a cache that fills in a straight line up to half of the room, and then is full."""
    top, full_s = random.uniform(0.1, 0.5) * ROOM, random.uniform(0.05, 0.9) * length_s
    return lambda at_s: top * min(1.0, at_s / full_s)


def steps(random: Random, length_s: float) -> Level:
    """Return a few things that are loaded at first use, half of the room in all."""
    when = [random.uniform(0, length_s) for _ in range(random.randint(1, 4))]
    return lambda at_s: sum(0.5 * ROOM / len(when) for one in when if at_s >= one)


def warm_up(random: Random, length_s: float) -> Level:
    """Return a quick rise in the first minutes, up to 70 % of the room."""
    top, over_s = random.uniform(0.2, 0.7) * ROOM, random.uniform(30, min(1200, 0.1 * length_s))
    return lambda at_s: top * min(1.0, at_s / over_s)


def daily(random: Random, length_s: float) -> Level:
    """Return a floor that goes with the day, by up to 40 % of the room."""
    del length_s
    height, phase = random.uniform(0.05, 0.2) * ROOM, random.uniform(0, 2 * math.pi)
    return lambda at_s: height * (1 + math.sin(at_s / 86_400 * 2 * math.pi + phase))


def sawtooth(random: Random, length_s: float) -> Level:
    """Return what grows for a while and is collected, again and again, up to half of the room."""
    height, period_s = random.uniform(0.05, 0.5) * ROOM, random.uniform(0.01, 0.4) * length_s
    return lambda at_s: height * (at_s % period_s) / period_s


def wandering(random: Random, length_s: float) -> Level:
    """Return noise that hangs together, around a tenth of the room."""
    values: list[float] = [0.0]
    for _ in range(int(length_s / STEP_S) + 2):
        values.append(0.995 * values[-1] + random.gauss(0, 0.002 * ROOM))
    return lambda at_s: 0.1 * ROOM + values[int(at_s / STEP_S)]


PLATEAUS: Final[Mapping[str, Callable[[Random, float], Level]]] = {
    one.__name__: one for one in (flat, cache, straight_cache, steps, warm_up, daily, sawtooth, wandering)
}


def plateaus(count: int, seed: int) -> Iterator[Trace]:
    """Yield traces without a leak, of one hour to four days, every kind in turn."""
    random = Random(seed)  # noqa: S311 - a seed is the point
    kinds = list(PLATEAUS.items())
    for index in range(count):
        kind, floor = kinds[index % len(kinds)]
        length_s = math.exp(random.uniform(math.log(3600), math.log(4 * 86_400)))
        yield _sampled(kind, random, floor(random, length_s), length_s)


def leaks(count: int, seed: int) -> Iterator[Trace]:
    """Yield traces that leak from their first minutes on, and end where the idle floor meets the cap."""
    random = Random(seed)  # noqa: S311 - a seed is the point
    for _ in range(count):
        length_s = math.exp(random.uniform(math.log(3600), math.log(4 * 86_400)))
        ramp, over_s = random.uniform(0, 0.2) * ROOM, random.uniform(30, 0.05 * length_s)
        beat_s = random.choice((0.0, random.uniform(1, 600)))  # a leak that comes in portions
        rate = (ROOM - ramp) / length_s

        def floor(
            at_s: float,
            ramp: float = ramp,
            over_s: float = over_s,
            beat_s: float = beat_s,
            rate: float = rate,
        ) -> float:
            whole_s = at_s if beat_s == 0 else at_s // beat_s * beat_s
            return ramp * min(1.0, at_s / over_s) + rate * whole_s

        yield _sampled("leak", random, floor, length_s)
