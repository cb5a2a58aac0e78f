"""How the idle memory of one life has moved, in a bounded number of points."""

from msgspec import Struct


class Floor(Struct, frozen=True, array_like=True):
    """One stretch of readings: its lowest, when that was, and the highest that two in a row have held."""

    at_s: float
    low_bytes: int
    held_bytes: int


class Growth(Struct, frozen=True):
    """A rise of the idle floors that is no chance; slopes in bytes a second, with their confidence."""

    slope: float
    slope_least: float
    slope_most: float
    since_s: float  # the rise is seen from here on ...
    at_s: float  # ... to here
    level_bytes: int  # the idle floor at `at_s`
    swing_bytes: int  # what load puts on top of it


class Trend(Struct, frozen=True):
    """The floors of one series of readings, and the stretch that is being read."""

    width_s: float = 0.0
    floors: tuple[Floor, ...] = ()
    growth: Growth | None = None  # as of the last floor
    opened_s: float = 0.0
    read_s: float = 0.0
    readings: int = 0  # in the open stretch; 0: there is none
    last_bytes: int = 0
    low_bytes: int = 0
    low_s: float = 0.0
    held_bytes: int = 0
