"""What one process says to its supervisor, and hears from it."""

import os
import threading
from collections.abc import Callable, Mapping

from supervisor.guard.link import Link
from supervisor.guard.memory import Snapshot
from supervisor.guard.pace import Pace
from supervisor.guard.stall_watch import StallWatch
from supervisor.guard.wire import Drain, Progress, Report, Words, decode, encode, real, text, whole


class Conversation:
    """Holds all that a forked child must not share with its parent. Its methods want `lock` held."""

    def __init__(self, environment: Mapping[str, str], clock: Callable[[], float]) -> None:
        """Begin with nothing said and nothing heard; no socket is opened before the first word."""
        self.pid: int = os.getpid()
        self.lock = threading.RLock()  # a signal handler may speak in the middle of another word
        path = environment.get("GPU_SUPERVISOR_SOCKET", "")
        notify = environment.get("NOTIFY_SOCKET", "")
        self.link: Link | None = Link(path, clock) if path else None
        self.stalls = StallWatch(environment, clock)
        self.words = Words()
        self.drain: Drain | None = None
        self.told_of_drain: bool = False
        self.ready: bool = False
        self.drained: bool = False
        self.progress: Progress | None = None
        self.batches: dict[str, float] | None = None
        self.poisoned: str | None = None
        self.beat_due_s: float = 0.0
        self.report_due_s: float = 0.0
        self._clock = clock
        self._seq = 0
        self._losses = 0
        self._pace = Pace()
        self._systemd = Link(notify, clock) if notify.startswith(("/", "@")) and not path else None
        self._watched = "WATCHDOG_USEC" in environment
        self._untold: list[str] = []

    def report(self, seen: Snapshot | None, *, beat: bool) -> bool:
        """Report everything; return False where it was dropped."""
        if self.link is None:
            return False
        self._seq += 1
        level, advice, stats = seen or (None, None, None)
        report = Report(
            seq=self._seq,
            ready=self.ready,
            beat=beat,
            drained=self.drained,
            level=level,
            memory=stats,
            advice=advice,
            progress=None if self.progress is None else self._pace.fill(_sound(self.progress), self._clock()),
            batches=self.batches,
            poisoned=self.poisoned,
        )
        return self.link.send(encode(report))

    def tell_systemd(self, said: str) -> None:
        """Send `said` to plain systemd, after what could not be sent before, since nothing repeats it."""
        if self._systemd is None or (said == "WATCHDOG=1" and not self._watched and not self._untold):
            return
        self._untold = [*(line for line in self._untold if line != said), said]
        if self._systemd.send("\n".join(self._untold).encode()):
            self._untold = []

    def hear(self) -> None:
        """Take in what has come; a loss makes unknown what was said before, but a request to drain."""
        if self.link is None:
            return
        heard = self.link.receive()
        if self.link.losses != self._losses:
            self._losses, self.words = self.link.losses, Words()
        for datagram in heard:
            words = decode(datagram)
            if words is not None:
                self.words = words
                self.drain = self.drain or words.drain

    def close(self) -> None:
        """Close what is open; to speak again opens it again, but for the kernel's stalls."""
        for link in (self.link, self._systemd):
            if link is not None:
                link.close()
        self.stalls.close()


def sound_batches(figures: Mapping[str, object]) -> dict[str, float]:
    """Return those of `figures` that the wire has, where they are numbers as it has them."""
    rates = {name: real(figures.get(name)) for name in ("success_rate", "throughput", "batch_efficiency")}
    counts = {name: whole(figures.get(name)) for name in ("recoveries", "peak_memory_bytes")}
    return {name: number for name, number in {**rates, **counts}.items() if number is not None}


def _sound(progress: Progress) -> Progress:
    """Return `progress` with such numbers as the wire has."""
    job, state, position, batch_size, done, total, throughput, eta_s = progress
    return Progress(
        text(job),
        state,
        whole(position),
        whole(batch_size),
        whole(done) or 0,
        whole(total),
        real(throughput),
        real(eta_s),
    )
