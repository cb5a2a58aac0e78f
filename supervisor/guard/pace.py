"""How fast a job goes, and when it is done."""

from collections import deque
from typing import Final

from supervisor.guard.wire import Progress

WINDOW: Final = 30  # samples
STEP_S: Final = 1.0  # between two samples: half a minute in all, so that a batch made smaller soon shows


class Pace:
    """The throughput of one job over its last half minute."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._job = ""
        self._samples: deque[tuple[float, int]] = deque(maxlen=WINDOW)

    def fill(self, progress: Progress, now_s: float) -> Progress:
        """Return `progress` with its throughput and the estimate of its end, where known and not given."""
        if progress.state != "processing":
            self._samples.clear()
            return progress
        throughput = progress.throughput
        if throughput is None:
            throughput = self._measured(progress, now_s)
        eta_s = progress.eta_s
        if eta_s is None and progress.total is not None and throughput:
            eta_s = max(0, progress.total - progress.done) / throughput
        return progress._replace(throughput=throughput, eta_s=eta_s)

    def _measured(self, progress: Progress, now_s: float) -> float | None:
        if progress.job != self._job or (self._samples and progress.done < self._samples[-1][1]):
            self._samples.clear()
        self._job = progress.job
        rate = None
        if self._samples:
            since_s, done = self._samples[0]
            rate = (progress.done - done) / (now_s - since_s) if now_s > since_s else None
        if not self._samples or now_s - self._samples[-1][0] >= STEP_S:
            self._samples.append((now_s, progress.done))
        return rate
