"""The history: incidents, samples and the durable memory, for a loop that never waits for a disk."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from supervisor.daemon.history_keeper import Keeper, Limits
from supervisor.daemon.history_mailbox import Mailbox
from supervisor.daemon.history_queries import find_courses, find_incident, find_incidents, find_samples
from supervisor.daemon.history_samples import SAMPLE_EVERY_S
from supervisor.daemon.history_store import Attached, Sampled, Told
from supervisor.model.action import Notice
from supervisor.model.course import Course
from supervisor.model.incident import Incident, IncidentDetail, Sample, SampleRow

MAX_BYTES: Final = 64 << 20
OPEN_WITHIN_S: Final = 10.0  # a log of 16 MiB is recovered in well under one
READ_WITHIN_S: Final = 10.0
READS_MOST: Final = 16

Result = TypeVar("Result")


class HistoryError(Exception):
    """The history could not be read; the text says "cannot read the history: why"."""


class History:
    """What happened, written by a thread of its own and read by others.

    Telling never waits and never fails: what a disk refuses is kept in memory (`state` says why) and
    written once the disk works again. `warn` is called from the writing thread.
    """

    def __init__(
        self,
        path: Path,
        warn: Callable[[str], None],
        *,
        max_bytes: int = MAX_BYTES,
        retry_s: float = 60.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Keep the history at `path`; nothing is opened before `start`. `now` is the wall clock."""

        def say(text: str) -> None:
            with suppress(RuntimeError):  # the loop that would hear it has ended
                warn(text)

        self._warn = say
        self._keeper = Keeper(path, say, Limits(max_bytes, retry_s, now))
        self._mailbox = Mailbox()
        self._retry_s = retry_s
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._write, name="history", daemon=True)
        self._sampled_wall_s = 0.0
        self._reads = threading.BoundedSemaphore(READS_MOST)

    @property
    def state(self) -> str:
        """Whether the history is on disk: `ok`, or why it is not."""
        return self._keeper.state

    @property
    def dropped(self) -> int:
        """How many samples and entries were lost because too many waited."""
        return self._mailbox.dropped + self._keeper.dropped

    def start(self) -> None:
        """Open the history; waits for the disk, for ten seconds at most."""
        self._thread.start()
        if not self._opened.wait(OPEN_WITHIN_S):
            self._keeper.state = f"the disk has not answered for {OPEN_WITHIN_S:g} s"
            self._warn(f"cannot open the history: {self._keeper.state}")

    def tell(self, notice: Notice, wall_s: float) -> None:
        """Add a notice to the incident that it names; one that names none is no history."""
        if notice.incident is not None:
            self._mailbox.put(Told(wall_s, notice))

    def attach(self, incident: str, lines: Sequence[str]) -> None:
        """Add the last lines of the worker's log to an incident that was told, in place of earlier ones."""
        self._mailbox.put(Attached(incident, tuple(lines)))

    def wants_sample(self, wall_s: float) -> bool:
        """Say whether the last sample is ten seconds old, or the clock was set back."""
        return not 0.0 <= wall_s - self._sampled_wall_s < SAMPLE_EVERY_S

    def sample(self, wall_s: float, rows: Sequence[SampleRow]) -> None:
        """Add the readings of a moment; those that come sooner than every ten seconds are left out."""
        if self.wants_sample(wall_s):
            self._sampled_wall_s = wall_s
            self._mailbox.put_samples(Sampled(wall_s, rows))

    def keep(self, key: str, value: bytes) -> None:
        """Keep a value durably in place of the one before."""
        self._mailbox.put_kept(key, value)

    def kept(self, key: str) -> bytes | None:
        """Return what was kept when the history was opened; for use at start only."""
        return self._keeper.kept.get(key)

    async def incidents(
        self, worker: str | None, since_wall_s: float | None, limit: int
    ) -> tuple[Incident, ...]:
        """Return incidents, the newest first. Raises HistoryError."""
        return await self._read(lambda db: find_incidents(db, worker, since_wall_s, limit))

    async def incident(self, ident: str) -> IncidentDetail | None:
        """Return everything about one incident; None where there is none. Raises HistoryError."""
        return await self._read(lambda db: find_incident(db, ident))

    async def samples(self, worker: str | None, since_wall_s: float, limit: int) -> tuple[Sample, ...]:
        """Return samples of a worker, or of the host and the GPUs, oldest first. Raises HistoryError."""
        return await self._read(lambda db: find_samples(db, worker, since_wall_s, limit))

    async def courses(self, since_wall_s: float, slot_s: int) -> tuple[Course, ...]:
        """Return the course of everything since a moment, in slots of `slot_s`. Raises HistoryError."""
        return await self._read(lambda db: find_courses(db, since_wall_s, slot_s))

    def flush(self, within_s: float) -> bool:
        """Wait until all that was told is written; False when it takes longer. Not for the loop."""
        return self._mailbox.wait_empty(within_s)

    def close(self, within_s: float = 3.0) -> None:
        """Write what waits and end; what is not written within the time is lost."""
        self._mailbox.close()
        if self._thread.ident is not None:
            self._thread.join(within_s)

    def _write(self) -> None:
        try:
            self._keeper.open()
            self._opened.set()
            while (batch := self._mailbox.take(self._retry_s)) is not None:
                if batch.events or batch.samples or batch.kept:
                    self._keeper.write(batch)
                self._keeper.tend()
            self._keeper.close()
        except Exception as error:
            # The edge of a thread: its end must be seen, and may not be that of the daemon.
            self._keeper.state = f"ended: {error!r}"
            self._warn(f"cannot keep a history any longer: {error!r}")
            raise
        finally:
            self._opened.set()

    async def _read(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run a query in a thread that nobody waits for: one of an executor would hold up the exit."""
        if not self._reads.acquire(blocking=False):
            raise HistoryError(f"cannot read the history: {READS_MOST} others do")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def settle(answer: Callable[[], Result]) -> None:
            if future.done():
                return
            try:
                future.set_result(answer())
            except HistoryError as error:
                future.set_exception(error)

        def work() -> None:
            answer = _answer(self._keeper, query)
            self._reads.release()
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, answer)

        threading.Thread(target=work, name="history-read", daemon=True).start()
        try:
            return await asyncio.wait_for(future, READ_WITHIN_S)
        except TimeoutError:
            raise HistoryError("cannot read the history: the disk does not answer") from None


def _answer(keeper: Keeper, query: Callable[[sqlite3.Connection], Result]) -> Callable[[], Result]:
    """Run a query now; what is returned gives its result, or raises HistoryError, where it is called."""
    try:
        result = keeper.read(query)
    except (sqlite3.Error, OSError) as error:
        refused = HistoryError(f"cannot read the history: {error}")

        def refuse() -> Result:
            raise refused

        return refuse
    return lambda: result
