"""What a runner feels of its device between batches: memory, heat, power, and the supervisor's word."""

import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

from supervisor.guard.device import Unreadable, clear_cache, cuda_known
from supervisor.guard.events import warn
from supervisor.guard.footprint import Footprint, footprint
from supervisor.guard.heat import Gauge, Heat, nvml_gauge, pause_s
from supervisor.guard.lane import Lane
from supervisor.guard.memory import MemoryManager
from supervisor.guard.oom import Failure, classify
from supervisor.guard.poison import leave
from supervisor.guard.stats import in_words

LOOK_S: Final = 0.1
"""Memory is read at most so often: it takes some 50 us."""
FEEL_S: Final = 1.0
"""Temperature and power are: NVML takes up to some milliseconds for them."""


class Outside(NamedTuple):
    """What a runner touches of the world; what differs in a test."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    environment: Mapping[str, str] = os.environ
    leave: Callable[[Exception], object] = leave
    """Tells the supervisor that the device's context is lost, and ends the process."""
    gauge_for: Callable[[str], Callable[[], Gauge]] = nvml_gauge


class Watch:
    """One device, watched for all the threads of a runner."""

    def __init__(self, memory: MemoryManager | None, heat: Heat, threshold: float, outside: Outside) -> None:
        """Begin without having read anything."""
        self._given = memory
        self._own: MemoryManager | None = None
        self._heat = heat
        self._threshold = threshold
        self._outside = outside
        self._lock = threading.RLock()  # a signal handler may ask for the figures
        self._due_s: dict[str, float] = {}
        self._gauge: tuple[str, Callable[[], Gauge]] | None = None
        self._felt = Gauge()

    @property
    def memory(self) -> MemoryManager:
        """The manager; without a given one, that of the host, or of the first GPU once torch works on it."""
        if self._given is not None:
            return self._given
        with self._lock:
            if self._own is None:
                self._own = MemoryManager("cpu")
            if self._own.device == "cpu" and cuda_known():
                self._own.move("cuda:0")
            return self._own

    def look(self, lane: Lane) -> None:
        """Halve the batch where memory is above the threshold, and clearing the cache does not help."""
        at = lane.standing.size
        if at <= min(lane.sizes.smallest, lane.sizes.best) or not self._due("memory", LOOK_S):
            return
        if self._above() is not None:
            self._guarded(lambda: clear_cache(self.memory.device))
            words = self._above()
            if words is not None:
                lane.squeeze(words)

    def pause_s(self, took_s: float, advice: Collection[str]) -> float:
        """Return how long to wait before the next batch, the last of which took `took_s`."""
        if self._due("heat", FEEL_S):
            device, gauge = self.memory.device, self._gauge
            if gauge is None or gauge[0] != device:
                gauge = self._gauge = (device, self._outside.gauge_for(device))
            self._felt = gauge[1]()
        return pause_s(self._heat, self._felt, advice, took_s)

    def recover(self, failure: Failure) -> None:
        """Clear up after an out-of-memory."""
        self._guarded(lambda: self.memory.handle_oom_error(failure))

    def lost(self, error: Exception) -> None:
        """End the process, since the device's context is lost; raise the error if that returns."""
        self._outside.leave(error)  # which logs it, where no log that is stuck keeps it
        raise error

    def footprint(self) -> Footprint:
        """Return what this process holds of the device."""
        return footprint(self.memory.device)

    def _above(self) -> str | None:
        reading = self.memory.read()
        if isinstance(reading, Unreadable) or reading.usage <= self._threshold:
            return None
        return in_words(reading)

    def _guarded(self, clear: Callable[[], object]) -> None:
        try:
            clear()
        except Exception as error:  # noqa: BLE001 - whatever the device says: what counts is whether it lives
            fault = error
        else:
            return
        if classify(fault) is Failure.POISONED_CONTEXT:
            self.lost(fault)
        warn("memory not cleared: %s", fault)

    def _due(self, what: str, every_s: float) -> bool:
        now_s = self._outside.clock()
        with self._lock:
            if now_s < self._due_s.get(what, now_s):
                return False
            self._due_s[what] = now_s + every_s
            return True
