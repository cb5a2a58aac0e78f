"""How long the helper is waited for, and how often what failed is tried again."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

# A helper that hangs in the driver may not even die of SIGKILL, and keeps its 15 MB. With this many of them
# no GPU that hung is tried again, and with twice as many no helper is started, until one is gone.
MAX_STUCK: Final = 2


class Patience(Struct, frozen=True):
    """All in seconds. A sequence is walked with each failure in a row; its last number repeats."""

    # nvmlInit takes about a second a GPU where nvidia-persistenced does not run.
    start_s: float = 30.0
    # After a hang, a crash, a library mismatch. Quickly at first: a driver being reloaded is soon back.
    backoff_s: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
    # No driver or no GPU. First for a driver that loads during boot; in the end 30 ms of work in 5 minutes.
    absent_s: tuple[float, ...] = (10.0, 60.0, 300.0)
    # A lost GPU may come back to a new process only; but each opening of the driver delays the others.
    lost_s: float = 300.0
    # Leaks in long polling are reported, unexplained (dcgm-exporter#292, nvitop#128): one lives a day.
    recycle_s: float = 86400.0
    # What a helper gets to end by itself, between two readings.
    leave_s: float = 2.0


PATIENCE: Final = Patience()


def delay(steps_s: Sequence[float], failures: int) -> float:
    """Return the step for the `failures`-th failure in a row, counted from 0."""
    return steps_s[min(failures, len(steps_s) - 1)]
