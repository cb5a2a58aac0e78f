"""When a worker has crossed a cap: k of the last n fresh readings, after warm-up."""

from typing import Final

from supervisor.model.memory import Life, Window
from supervisor.model.plan import BreachRule
from supervisor.model.quantity import format_size
from supervisor.model.reading import Missing

FASTEST_SAMPLE_S: Final = 0.02
# A worker over its cap is read again once it may have grown by this share of the cap.
OVERSHOOT: Final = 0.01
# From a look to a glance 1.5 s later, a worker that began to grow by 1 GB/s in between seems to grow by a
# third of it, and would be read 200 ms after it crossed its cap.
LEAP_BYTES: Final = 64 << 20
AFTER_A_LEAP_S: Final = 0.05


def weigh(window: Window, reading: int | Missing, read_s: float, cap_bytes: int, rule: BreachRule) -> Window:
    """Return the window with this reading in it, if it is fresh and known."""
    if isinstance(reading, Missing) or read_s <= window.read_s:
        return window
    return Window((*window.over, reading > cap_bytes)[-rule.of :], read_s)


def breached(window: Window, rule: BreachRule) -> bool:
    """Say whether enough of the last readings are over the cap, the newest among them."""
    return bool(window.over) and window.over[-1] and sum(window.over) >= rule.samples


def warm(life: Life, read_s: float) -> bool:
    """Say whether a reading of `read_s` was taken after the life's warm-up."""
    return read_s - life.launched_s >= life.plan.breach.warm_up_s


def breach_reason(what: str, seen_bytes: int, cap_bytes: int, rule: BreachRule) -> str:
    """Put a breach into words."""
    return (
        f"{what} {format_size(seen_bytes)} is above its cap of {format_size(cap_bytes)}"
        f" in {rule.samples} of {rule.of} readings"
    )


def next_sample_s(
    seen_bytes: int, growth_bytes_s: float, cap_bytes: int, now_s: float, *, gained_bytes: int = 0
) -> float | None:
    """Return when a growing worker must be read again, or None where the next look is soon enough.

    Half the time that is left to the cap at the present growth; over the cap, the time for a
    hundredth of it. At 1 GB/s towards a cap of 2 GB the last readings are 20 ms apart, so that
    three of them over the cap come within 100 ms; a leak of 10 MB/s never hastens anything.

    `gained_bytes` since the reading before may all have come at the end of that time: after a leap, the
    growth is an average with time in it that the worker was at rest, so it is measured anew at once.
    """
    if growth_bytes_s <= 0:
        return None
    room_bytes = cap_bytes - seen_bytes
    wait_s = room_bytes / growth_bytes_s / 2 if room_bytes > 0 else cap_bytes * OVERSHOOT / growth_bytes_s
    if gained_bytes >= LEAP_BYTES:
        wait_s = min(wait_s, AFTER_A_LEAP_S)
    return now_s + max(wait_s, FASTEST_SAMPLE_S)
