"""What the daemon measures of itself: how long its turns take, and what it could not read."""

from bisect import bisect_left
from typing import Final

from msgspec.structs import asdict

from supervisor.daemon.loop import Turn
from supervisor.model.memory import GpuMemory
from supervisor.model.reading import NOT_READ_YET, Missing
from supervisor.model.status import SelfStatus

# Seconds. A turn of 10 workers takes under a millisecond, a look at 1,000 of them some 50.
BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class Meter:
    """Counts over one run of the daemon."""

    def __init__(self, pid: int, started_wall_s: float) -> None:
        """Begin at zero."""
        self._pid = pid
        self._started_wall_s = started_wall_s
        self._buckets = [0] * (len(BOUNDS_S) + 1)
        self._turns_s = 0.0
        self._missing = 0
        self._quarantines = 0
        self.adopted = 0

    def count(self, turn: Turn) -> None:
        """Count a turn that is over."""
        self._buckets[bisect_left(BOUNDS_S, turn.took_s)] += 1
        self._turns_s += turn.took_s
        after = turn.decision.memory.gpus
        for uuid, before in turn.before.gpus.items():
            self._quarantines += (
                before.quarantine is None and after.get(uuid, GpuMemory()).quarantine is not None
            )
        self._quarantines += sum(
            one.quarantine is not None for uuid, one in after.items() if uuid not in turn.before.gpus
        )
        if turn.looked:
            self._missing += _missing(turn)

    def status(self, dropped: int) -> SelfStatus:
        """Return the counts; `dropped` rows of the history were lost."""
        return SelfStatus(
            pid=self._pid,
            started_wall_s=self._started_wall_s,
            turns=sum(self._buckets),
            turns_s=round(self._turns_s, 6),
            turn_bounds_s=BOUNDS_S,
            turn_counts=tuple(self._buckets),
            readings_missing=self._missing,
            adopted=self.adopted,
            quarantines=self._quarantines,
            history_dropped=dropped,
        )


def _missing(turn: Turn) -> int:
    """Count the readings that a look wanted and could not have."""
    snapshot = turn.snapshot
    values = [*asdict(snapshot.host).values()]
    for gpu in snapshot.gpus:
        values += [gpu.memory_total_bytes, gpu.memory_used_bytes, gpu.temperature_c, gpu.power_w]
    for seen in snapshot.workers.values():
        values += [seen.memory_bytes, seen.memory_file_bytes]
        values += [seen.vram_bytes] if snapshot.gpus else []
    return sum(isinstance(value, Missing) and value != NOT_READ_YET for value in values)
