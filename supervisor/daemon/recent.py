"""The last things that were told, for those who follow along; bounded, and never waited for."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from supervisor.model.action import Notice
from supervisor.model.event import News, Told
from supervisor.model.news import News as TurnNews
from supervisor.model.news import Reported
from supervisor.model.report import Progress

# A storm of 200 workers that restart at once says some 1,500 things; each is about 400 bytes.
KEPT: Final = 2000
ANSWERED_MOST: Final = 500


class Recent:
    """Remembers the newest notices, and the steps of workers' jobs, by a running number."""

    def __init__(self, epoch: str) -> None:
        """Begin to count at 1; `epoch` names this run of the daemon."""
        self._epoch = epoch
        self._last = 0
        self._told: deque[Told] = deque(maxlen=KEPT)
        self._jobs: dict[str, tuple[str, str]] = {}  # by worker: the job and its state, as last told

    def notice(self, notice: Notice, wall_s: float) -> None:
        """Add a notice; what only a developer asks for is left out."""
        if notice.level == "debug":
            return
        self._last += 1
        self._told.append(
            Told(
                self._last,
                wall_s,
                notice.level,
                notice.event,
                notice.reason,
                notice.worker,
                notice.gpu,
                None if notice.cause is None else notice.cause.value,
                notice.incident,
                notice.fields,
            )
        )

    def hear(self, news: Sequence[TurnNews], wall_s: float) -> None:
        """Add the steps of jobs among the news of a turn: another job, or another state of one."""
        for one in news:
            if isinstance(one, Reported) and one.report.progress is not None:
                self._job(one.worker, one.report.progress, wall_s)

    def _job(self, worker: str, job: Progress, wall_s: float) -> None:
        step = (job.job, job.state)
        if self._jobs.get(worker) == step:
            return
        self._jobs[worker] = step
        self._last += 1
        self._told.append(Told(self._last, wall_s, "info", f"job {job.state}", job.job, worker, job=job))

    def since(self, epoch: str | None, seq: int, limit: int = ANSWERED_MOST) -> News:
        """Return what was told after `seq`, the newest `limit` at most; of another epoch everything kept."""
        seen = seq if epoch == self._epoch else 0
        fresh = [told for told in self._told if told.seq > seen][-max(0, limit) :]
        missed = self._last - seen - len(fresh)
        return News(self._epoch, self._last, max(0, missed), tuple(fresh))
