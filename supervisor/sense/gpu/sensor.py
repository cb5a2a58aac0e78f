"""The client of the NVML helper. Lives in the asyncio loop, where it never waits for the driver.

A *round* is one reading of all GPUs: one request, one deadline. What the helper answered before a hang
counts. The GPU that it hung on is a *suspect*: the next helper leaves it out until its backoff has passed.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Mapping
from signal import SIGKILL, SIGTERM
from typing import Final

import msgspec

from supervisor.model.phase import GpuState
from supervisor.model.snapshot import GpuSample
from supervisor.sense.gpu import fleet as fleets
from supervisor.sense.gpu import suspects as suspicions
from supervisor.sense.gpu import words
from supervisor.sense.gpu.child import Ended
from supervisor.sense.gpu.keeper import Keeper
from supervisor.sense.gpu.patience import MAX_STUCK, PATIENCE, Patience, delay
from supervisor.sense.gpu.wire import Fault, GpuLine, Line, Request

# With the second helper in a row that answered nothing at all it is not one GPU any more.
NOT_ONE_GPU: Final = 2

_SOMEBODY_ELSE: Final = frozenset({SIGTERM, SIGKILL})  # no driver ends a process with these


class _Round(msgspec.Struct):
    number: int
    skip: tuple[int, ...]
    order: list[int] | None = None  # once the helper has counted
    answered: set[int] = msgspec.field(default_factory=set[int])
    seen: set[str] = msgspec.field(default_factory=set[str])

    def reading(self) -> int | None:
        """Return the index that is being read."""
        return next((index for index in self.order or () if index not in self.answered), None)


class GpuSensor:
    """Reads all GPUs on request. `tell` is called in the loop when something new is known."""

    def __init__(
        self,
        *,
        tell: Callable[[], None],
        python: str = sys.executable,
        deadline_s: float = 2.0,
        environment: Mapping[str, str] | None = None,
        patience: Patience = PATIENCE,
    ) -> None:
        """Start nothing yet. `environment` is the helper's, None for ours; `deadline_s` is for one round."""
        given = os.environ if environment is None else environment
        self._tell = tell
        self._deadline_s = deadline_s
        self._patience = patience
        self._helper = Keeper(python, given, patience.leave_s, self._heard, self._ended)
        self._fleet: fleets.Fleet = {}
        self._suspects: suspicions.Suspects = {}
        self._missing: str | None = None
        self._round: _Round | None = None
        self._rounds = 0
        self._timer: asyncio.TimerHandle | None = None
        self._failures = 0  # helpers in a row that answered nothing
        self._absences = 0  # starts in a row that found no GPU
        self._renewals = 0  # helpers in a row that were replaced because a GPU was not well
        self._not_before_s = 0.0  # when a helper may be started
        self._renew_after_s = patience.recycle_s
        self._decode = msgspec.json.Decoder(Line).decode

    async def start(self) -> None:
        """Ask for the first reading; it is told when it is in."""
        self.request()

    def request(self) -> None:
        """Ask for one reading of all GPUs and return at once; one that is under way is not repeated."""
        if self._round is not None:
            return
        now_s = time.monotonic()
        if self._helper.running and now_s >= self._helper.started_s + self._renew_after_s:
            self._renewals += 1
            self._helper.dismiss()
        fresh = not self._helper.running
        if fresh and not self._start_helper(now_s):
            return
        plan = suspicions.turn(self._suspects, self._helper.stuck, now_s)
        self._rounds += 1
        self._round = _Round(self._rounds, plan.skip)
        request = Request(round=self._rounds, skip=list(plan.skip), last=list(plan.last))
        self._helper.say(msgspec.json.encode(request) + b"\n")
        self._set_deadline(self._patience.start_s if fresh else self._deadline_s)

    def gpus(self) -> tuple[GpuSample, ...]:
        """Return every GPU that was ever seen, as last read, by index."""
        return tuple(sorted(self._fleet.values(), key=lambda gpu: (gpu.index, gpu.uuid)))

    def missing(self) -> str | None:
        """Say why no GPU is known; None while some are, and until the first answer."""
        return None if self._fleet else self._missing

    async def close(self) -> None:
        """End the helper for good; one that cannot be killed is left behind."""
        self._set_deadline(None)
        self._round = None
        self._not_before_s = float("inf")
        await self._helper.close()

    def _start_helper(self, now_s: float) -> bool:
        if now_s < self._not_before_s:
            return False
        if self._helper.stuck >= 2 * MAX_STUCK:
            self._nothing_answered(
                GpuState.HUNG, "GPU helpers hang in the NVIDIA driver and cannot be killed"
            )
            return False
        try:
            self._helper.start()
        except OSError as error:
            self._nothing_answered(GpuState.FAILED, f"cannot start the GPU helper: {error.strerror}")
            return False
        return True

    def _heard(self, text: bytes) -> None:
        try:
            self._take(self._decode(text))
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._helper.abandon()
            self._nothing_answered(GpuState.FAILED, "the GPU helper does not speak its protocol")

    def _take(self, line: Line) -> None:
        now = self._round
        if now is None or line.get("round", now.number) != now.number:
            raise msgspec.DecodeError("an answer to nothing")
        if "fault" in line:
            self._refused(line["fault"])
        elif "ready" in line:
            self._set_deadline(self._deadline_s)
        elif "order" in line:
            now.order = line["order"]
        elif "gpu" in line:
            self._take_gpu(now, line["gpu"])
        else:
            self._finish(now)

    def _take_gpu(self, now: _Round, line: GpuLine) -> None:
        self._fleet, uuid = fleets.told(self._fleet, line)
        self._suspects = suspicions.cleared(self._suspects, line["index"])
        now.seen.add(uuid)
        now.answered.add(line["index"])

    def _finish(self, now: _Round) -> None:
        self._fleet = fleets.settled(self._fleet, now.seen, now.skip)
        self._suspects = suspicions.within(self._suspects, now.skip)
        self._absences = 0
        if now.answered:
            self._failures = 0
        self._plan_renewal()
        self._end_round()

    def _plan_renewal(self) -> None:
        """Have a new process open the driver in time: it may see a new library, or a GPU that is back."""
        states = {gpu.state for gpu in self._fleet.values() if gpu.index not in self._suspects}
        self._renew_after_s = self._patience.recycle_s
        if GpuState.MISMATCH in states:
            self._renew_after_s = delay(self._patience.backoff_s, self._renewals)
        elif states - {GpuState.OK}:
            self._renew_after_s = self._patience.lost_s
        else:
            self._renewals = 0

    def _refused(self, fault: Fault) -> None:
        """Take in that the driver as a whole answers an error; this helper is of no more use."""
        self._helper.dismiss()
        why = words.why_none(fault)
        if fault["code"] in words.ABSENT_CODES and not self._fleet:
            self._not_before_s = time.monotonic() + delay(self._patience.absent_s, self._absences)
            self._absences += 1
            self._missing = why
            self._end_round()
            return
        self._fleet = fleets.all_silent(self._fleet, fleets.state_of(fault), why)
        self._nothing_answered(fleets.state_of(fault), why)

    def _overdue(self) -> None:
        """Give up on a helper that is past its deadline: what waits in the driver cannot be interrupted."""
        if self._round is None:
            return
        self._helper.abandon()
        index = self._round.reading()
        if index is None:
            self._fleet = fleets.all_silent(self._fleet, GpuState.HUNG, words.NO_ANSWER)
            self._nothing_answered(GpuState.HUNG, words.NO_ANSWER)
        else:
            self._blame(index, GpuState.HUNG, words.NO_ANSWER)

    def _ended(self, ended: Ended) -> None:
        why = f"the GPU helper ended: {ended.how}"
        index = self._round.reading() if self._round else None
        if index is None or ended.signum in _SOMEBODY_ELSE:
            self._nothing_answered(GpuState.FAILED, why)
        else:
            self._blame(index, GpuState.FAILED, why)

    def _blame(self, index: int, state: GpuState, why: str) -> None:
        """Put off the one GPU that took the helper down; what was read of the others counts."""
        self._suspects = suspicions.blamed(self._suspects, index, self._patience, time.monotonic())
        self._fleet = fleets.silent(self._fleet, index, state, why)
        if self._round is not None and self._round.answered:
            self._failures = 0
            self._end_round()
        else:
            self._nothing_answered(state, why)

    def _nothing_answered(self, state: GpuState, why: str) -> None:
        self._not_before_s = time.monotonic() + delay(self._patience.backoff_s, self._failures)
        self._failures += 1
        self._missing = why
        if self._failures >= NOT_ONE_GPU:
            self._fleet = fleets.all_silent(self._fleet, state, why)
        self._end_round()

    def _end_round(self) -> None:
        self._round = None
        self._set_deadline(None)
        self._tell()

    def _set_deadline(self, wait_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if wait_s is None else asyncio.get_running_loop().call_later(wait_s, self._overdue)
