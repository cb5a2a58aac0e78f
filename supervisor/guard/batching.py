"""How batches are run: what a caller says, else the environment, else the default."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from supervisor.guard.sizes import Sizes

SECONDS_FOR_AN_ITEM: Final = 60.0


class Asked(NamedTuple):
    """What a caller said; None leaves it to the environment."""

    threshold: float | None = None
    min_batch_size: float | None = None
    max_retries: float | None = None
    fallback_delay_s: float | None = None
    timeout_s: float | None = None


class Batching(NamedTuple):
    """How a runner goes about its batches, all of it decided."""

    threshold: float
    """The used share of the device's memory, from 0 to 1, above which batches are halved."""
    smallest: int
    max_retries: int
    """How often an item that is alone is tried again, when memory or time ran out for it."""
    fallback_delay_s: float
    """The wait before what ran out of memory is tried again."""
    timeout_s: float | None
    """What a call may take; None: 60 s for each item, and a call that takes longer is only told of."""

    def limit_s(self, count: int) -> float:
        """Return what a call with `count` items may take."""
        return SECONDS_FOR_AN_ITEM * count if self.timeout_s is None else self.timeout_s


class _Setting(NamedTuple):
    argument: str
    variable: str
    default: float | None
    least: float
    most: float = math.inf
    unit: float = 1
    whole: bool = False

    def choose(self, asked: float | None, environment: Mapping[str, str]) -> float | None:
        text = environment.get(self.variable, "").strip()
        if asked is not None:
            return self._checked(asked, f"{self.argument}={asked}", 1)
        if not text:
            return self.default
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        return self._checked(number * self.unit, f"{self.variable}={text!r}", self.unit)

    def _checked(self, number: float, source: str, unit: float) -> float:
        fits = self.least <= number <= self.most and math.isfinite(number)
        if fits and not (self.whole and number % 1):
            return number
        kind = "whole number" if self.whole else "number"
        most = "" if math.isinf(self.most) else f" up to {self.most / unit:g}"
        raise ValueError(f"cannot run batches with {source}: it is a {kind} from {self.least / unit:g}{most}")


_SETTINGS: Final = (
    _Setting("threshold", "GPU_MEMORY_THRESHOLD", 0.85, 0.01, 1, unit=0.01),
    _Setting("min_batch_size", "MIN_BATCH_SIZE", 1, 1, whole=True),
    _Setting("max_retries", "MAX_RETRIES", 3, 0, whole=True),
    _Setting("fallback_delay_s", "FALLBACK_DELAY_MS", 1, 0, unit=0.001),
    _Setting("timeout_s", "ML_INFERENCE_TIMEOUT", None, 0.001),
)


def decide(asked: Asked, environment: Mapping[str, str] = os.environ) -> Batching:
    """Fill in what was not asked for; ValueError names the argument or the variable that is wrong."""
    threshold, smallest, retries, delay_s, timeout_s = (
        setting.choose(said, environment) for setting, said in zip(_SETTINGS, asked, strict=True)
    )
    # Only the last has no default; `or` is for the types alone.
    return Batching(threshold or 0, int(smallest or 0), int(retries or 0), delay_s or 0, timeout_s)


def sizes_of(best: int, fallback: Sequence[int], smallest: int, quiet_s: float | None) -> Sizes:
    """Return the sizes, falling, or ValueError for those that cannot be."""
    sizes = Sizes(best, tuple(sorted(set(fallback), reverse=True)), smallest, quiet_s)
    sizes.check()
    return sizes
