"""What a runner has done, counted, and the figures that follow from the counts."""

from typing import NamedTuple


class Tally(NamedTuple):
    """Counts since a runner began; sums of two are sums of their fields."""

    batches: int = 0
    calls: int = 0
    useful_calls: int = 0
    """Calls that returned a result for each of their items."""
    items: int = 0
    """Items accounted for, failed ones included."""
    failed_items: int = 0
    out_of_memory: int = 0
    timeouts: int = 0
    recoveries: int = 0
    """Batches that failed in a call, and whose items all have results."""
    busy_s: float = 0.0
    """Time in calls and in the waits between them; what a consumer does with the results is not in it."""

    def plus(self, other: "Tally") -> "Tally":
        """Return the sum."""
        return Tally._make(mine + its for mine, its in zip(self, other, strict=True))

    def success_rate(self) -> float | None:
        """Return the share of items that have a result; None before the first."""
        return None if not self.items else (self.items - self.failed_items) / self.items

    def throughput(self) -> float | None:
        """Return items accounted for per busy second of one run; None before the first."""
        return None if not self.items or not self.busy_s else self.items / self.busy_s

    def batch_efficiency(self) -> float | None:
        """Return the share of calls that returned results; None before the first."""
        return None if not self.calls else self.useful_calls / self.calls

    def figures(self) -> dict[str, object]:
        """Return the counts and what follows from them, rounded to four digits."""
        derived = {
            "success_rate": self.success_rate(),
            "throughput": self.throughput(),
            "batch_efficiency": self.batch_efficiency(),
        }
        counts = self._replace(busy_s=round(self.busy_s, 4))._asdict()
        return {**counts, **{key: None if v is None else round(v, 4) for key, v in derived.items()}}
