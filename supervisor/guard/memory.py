"""Feels a device's memory run short, and says by which steps a worker makes do with less."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from supervisor.guard.advice import Advice, Steps, further
from supervisor.guard.device import (
    DeviceMemory,
    Reader,
    Unreadable,
    clear_cache,
    cuda_available,
    cuda_known,
    device_reader,
)
from supervisor.guard.events import note, warn
from supervisor.guard.oom import Failure, classify
from supervisor.guard.pressure import LEVELS, Pressure, Thresholds, judge
from supervisor.guard.stats import figures, in_words

T = TypeVar("T")

_OUT_OF_MEMORY: Final = frozenset({Failure.DEVICE_OOM, Failure.HOST_OOM})


class Loaded(NamedTuple, Generic[T]):
    """A model, and the device that had room for it."""

    model: T
    device: str


class Snapshot(NamedTuple):
    """What a manager knows at one moment."""

    level: Pressure
    advice: Advice
    stats: dict[str, object]
    """The figures of /stats, of the last reading."""


class MemoryManager:
    """Watches one device for one worker. Safe to share among threads.

    What it advises is kept: it never advises full quality again until `reset_degradation`.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the contract, of which most callers write one or none
        self,
        device: str = "cuda:0",
        warning_threshold: float = 0.75,
        high_threshold: float = 0.85,
        critical_threshold: float = 0.95,
        check_interval: float = 1.0,
        hysteresis: float = 0.05,
        *,
        steps: Steps | None = None,
        clock: Callable[[], float] = time.monotonic,
        reader_for: Callable[[str], Reader] = device_reader,
    ) -> None:
        """Begin at normal pressure, without having read anything; `check_interval` is in seconds.

        The pressure is high from `warning_threshold` on, critical from `high_threshold` and extreme from
        `critical_threshold`. Raises ValueError where they do not rise, or the device is of no known kind.
        """
        self._at = Thresholds(warning_threshold, high_threshold, critical_threshold, hysteresis)
        self._at.check()
        self.device: str = device
        self._steps = steps or Steps()
        self._interval_s = check_interval
        self._clock = clock
        self._reader_for = reader_for
        self._read = reader_for(device)
        self._lock = threading.RLock()
        self._checked_s: float | None = None
        self._reduced: tuple[Pressure, float] | None = None
        self._unreadable = False
        self._reading: DeviceMemory | Unreadable = Unreadable("not read yet")
        self._pressure = Pressure.NORMAL
        self._advice = Advice()
        self._oom_events = 0
        self._ooms_since_reset = 0
        self._recoveries = 0
        self._degradation_level = 0

    @property
    def advice(self) -> Advice:
        """All that was advised since the last reset."""
        return self._advice

    def check_memory_pressure(self) -> Pressure:
        """Return the level, read anew once in `check_interval`; a reading that fails leaves it as it was."""
        with self._lock:
            now_s = self._clock()
            if self._checked_s is None or now_s - self._checked_s >= self._interval_s:
                self._checked_s = now_s
                self._take(self._read())
            return self._pressure

    def reduce_memory_usage(self, level: Pressure) -> Advice:
        """Clear the cache from high pressure on, and return what else to do at `level`.

        From critical on that is a smaller batch; at extreme also a smaller input and fewer stages, which
        counts up the degradation level. To ask for the same level again within `check_interval` does nothing.
        """
        with self._lock:
            level = Pressure(level)
            now_s = self._clock()
            if level is Pressure.NORMAL or self._just_reduced(level, now_s):
                return self._advice
            self._reduced = (level, now_s)
            self._advice = further(self._advice, level, self._steps)
            if level is Pressure.EXTREME:
                self._degradation_level += 1
            clear_cache(self.device)
            return self._advice

    def handle_oom_error(self, failure: Failure = Failure.DEVICE_OOM) -> Advice:
        """Count an out-of-memory, clear up after it, and return what to retry with. Not within `except`.

        The first asks for a smaller batch, the second for a smaller input too, the third for the CPU, unless
        it was the host's memory that ran out. Raises what the device says where its context is lost.
        """
        with self._lock:
            self._ooms_since_reset += 1
            level = Pressure.CRITICAL if self._ooms_since_reset == 1 else Pressure.EXTREME
            advice = further(self._advice, level, self._steps)
            if failure is Failure.DEVICE_OOM and self._ooms_since_reset >= self._steps.fallback_after:
                advice = advice._replace(cpu_fallback=True)
            self._advice = advice
            self._clear_up(failure)
            return advice

    def attempt(self, work: Callable[[Advice], T]) -> T:
        """Return what `work` returns, trying again with less each time that memory runs out.

        `work` gets the advice to go by. The last try is on the CPU, or with a smaller input where it is the
        host's memory that runs out; raises its error, and at once one that memory is not the reason of.
        """
        advice, failed = self._advice, 0
        while True:
            try:
                result = work(advice)
            except Exception as error:
                failure = classify(error)
                if failure not in _OUT_OF_MEMORY or failed >= self._retries(failure):
                    if failed:
                        warn("not recovered: after %d retries, %s", failed, self._numbers())
                    raise
            else:
                if failed:
                    self.recovered(failed)
                return result
            failed += 1
            advice = self.handle_oom_error(failure)  # here the traceback is gone, and what it held

    def read(self) -> DeviceMemory | Unreadable:
        """Read the device now."""
        return self._read()

    def recovered(self, retries: int) -> None:
        """Count and tell that work has passed after so many retries."""
        with self._lock:
            self._recoveries += 1
            note("recovered: after %d retries, on %s, %s", retries, self.device, self._numbers())

    def load_model(self, load: Callable[[str], T], devices: Sequence[str] = ("cuda:0", "cpu")) -> Loaded[T]:
        """Load on the first of `devices` that has the memory for it, and watch that one from then on.

        Where the CPU is advised, others are passed over. Raises the error of the last device, at once any
        error that is not out-of-memory, and ValueError for no devices.
        """
        if not devices:
            raise ValueError("cannot load a model: no devices are given")
        only = ["cpu"] if self._advice.cpu_fallback and "cpu" in devices else devices
        *others, last = only
        for failed, device in enumerate(others):
            self.move(device)
            loaded = _try_to_load(load, device)
            if not isinstance(loaded, Failure):
                if failed:
                    self.recovered(failed)
                return loaded
            self._clear_up(loaded)  # and no smaller batch: the next device may be large
        self.move(last)
        model = load(last)
        if others:
            self.recovered(len(others))
        return Loaded(model, last)

    def move(self, device: str) -> None:
        """Watch `device` from now on; counts and advice stay. Raises ValueError for one of no known kind."""
        with self._lock:
            if device != self.device:
                self._read = self._reader_for(device)
                self.device = device
                self._checked_s = None

    def get_memory_stats(self) -> dict[str, object]:
        """Return the figures of /stats, read anew; those that cannot be had are None, with why in `missing`.

        An mb is 2**20 bytes and a gb 2**30, rounded to two decimals.
        """
        with self._lock:
            return {"cuda_available": cuda_available(), **self._counts(), **figures(self._read())}

    def snapshot(self) -> Snapshot:
        """Return what is known, for whoever must not wait: it reads anew once in `check_interval` at most.

        It does not even that while another thread is at work here. `cuda_available` is None where torch is
        loaded and has not begun to use its GPU: to ask would break a later fork.
        """
        if self._lock.acquire(blocking=False):
            try:
                self.check_memory_pressure()
            finally:
                self._lock.release()
        return Snapshot(self._pressure, self._advice, self._recent_stats())

    def reset_degradation(self) -> None:
        """Go back to full quality; the counts of events and recoveries stay."""
        with self._lock:
            if self._degradation_level or self._advice != Advice():
                note("degrading undone: level %d", self._degradation_level)
            self._degradation_level = 0
            self._ooms_since_reset = 0
            self._advice = Advice()
            self._reduced = None

    def _recent_stats(self) -> dict[str, object]:
        cuda = cuda_known()
        stats = {"cuda_available": cuda, **self._counts(), **figures(self._reading)}
        if cuda is None:
            missing = stats.get("missing")
            why = {"cuda_available": "torch has not begun to use its GPU"}
            stats["missing"] = {**missing, **why} if isinstance(missing, dict) else why
        return stats

    def _counts(self) -> dict[str, object]:
        return {
            "current_pressure": self._pressure.value,
            "oom_events": self._oom_events,
            "recoveries": self._recoveries,
            "degradation_level": self._degradation_level,
        }

    def _take(self, reading: DeviceMemory | Unreadable) -> None:
        self._reading = reading
        if isinstance(reading, Unreadable):
            if not self._unreadable:
                warn("memory not readable: %s", reading.why)
            self._unreadable = True
            return
        self._unreadable = False
        before, self._pressure = self._pressure, judge(reading.usage, self._pressure, self._at)
        if self._pressure is not before:
            rising = LEVELS.index(self._pressure) > LEVELS.index(before)
            tell = warn if rising else note
            tell(
                "memory pressure: %s, before %s, on %s, %s",
                self._pressure,
                before,
                self.device,
                in_words(reading),
            )

    def _just_reduced(self, level: Pressure, now_s: float) -> bool:
        return (
            self._reduced is not None
            and self._reduced[0] is level
            and now_s - self._reduced[1] < self._interval_s
        )

    def _clear_up(self, failure: Failure) -> None:
        with self._lock:
            self._oom_events += 1
            self._degradation_level += 1
            warn("out of memory: %s, event %d, %s", failure, self._oom_events, self._numbers())
            clear_cache(self.device)

    def _retries(self, failure: Failure) -> int:
        """Return after how many retries nothing is left to do without."""
        after = self._steps.fallback_after
        return after if failure is Failure.DEVICE_OOM else after - 1

    def _numbers(self) -> str:
        return in_words(self._read())


def _try_to_load(load: Callable[[str], T], device: str) -> Loaded[T] | Failure:
    try:
        return Loaded(load(device), device)
    except Exception as error:
        failure = classify(error)
        if failure not in _OUT_OF_MEMORY:
            raise
        return failure
