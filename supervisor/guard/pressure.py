"""How full a device is, in four levels that do not flutter."""

from enum import StrEnum
from typing import Final, NamedTuple


class Pressure(StrEnum):
    """How full a device is."""

    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"
    EXTREME = "extreme"


LEVELS: Final = tuple(Pressure)


class Thresholds(NamedTuple):
    """The used shares, from 0 to 1, at which each level begins; it ends `hysteresis` below that."""

    high: float = 0.75
    critical: float = 0.85
    extreme: float = 0.95
    hysteresis: float = 0.05

    def check(self) -> None:
        """Raise ValueError where the thresholds do not rise."""
        if not 0 <= self.hysteresis < self.high < self.critical < self.extreme <= 1:
            raise ValueError(
                "cannot watch memory: 0 <= hysteresis < warning < high < critical <= 1 is not true of "
                f"{self.hysteresis}, {self.high}, {self.critical}, {self.extreme}"
            )


def judge(usage: float, before: Pressure, at: Thresholds) -> Pressure:
    """Return the level of `usage`: up at once, down only `hysteresis` below the threshold."""
    thresholds = (at.high, at.critical, at.extreme)
    reached = sum(usage >= threshold for threshold in thresholds)
    held = sum(usage >= threshold - at.hysteresis for threshold in thresholds)
    return LEVELS[max(reached, min(LEVELS.index(before), held))]
