"""A worker's conversation with its supervisor; without one, it works alone."""

import os
import time
from collections.abc import Callable, Mapping
from typing import Final

from supervisor.guard.conversation import Conversation, sound_batches
from supervisor.guard.memory import MemoryManager, Snapshot
from supervisor.guard.pressure import LEVELS, Pressure
from supervisor.guard.wire import Drain, Progress, text

REPORT_S: Final = 0.2  # between two reports where nothing has changed: five a second at most
STATES: Final = ("queued", "processing", "completed", "failed")

_one: dict[str, "Supervisor"] = {}


def supervised() -> "Supervisor":
    """Return the one conversation of this process."""
    return _one.get("") or _one.setdefault("", Supervisor())  # of threads that race, one wins


class Supervisor:
    """Says how this worker is, and hears what its supervisor wants. Safe to share among threads.

    Call `heartbeat` or `progress` from the work loop, as often as you like: no thread does it for you, since
    a thread beats on while the loop hangs, and that is what a heartbeat is to show. Nothing here waits,
    and nothing raises for what the supervisor does or does not. With no supervisor, all of it does next to
    nothing; below plain systemd, it says READY=1, WATCHDOG=1 and STOPPING=1.

    In a forked child it begins anew, with a socket of its own and nothing reported or heard; the manager and
    the callback stay. Of a worker with several processes, one should speak: they are heard as one.
    """

    def __init__(
        self, environment: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with GPU_SUPERVISOR_SOCKET, else NOTIFY_SOCKET, and MEMORY_PRESSURE_WATCH, where set."""
        self._environment = environment
        self._clock = clock
        self._manager: MemoryManager | None = None
        self._on_drain: Callable[[Drain], object] | None = None
        self._conversation = Conversation(environment, clock)

    @property
    def active(self) -> bool:
        """Whether there is a supervisor to talk to, as far as is known."""
        link = self._here().link
        return link is not None and link.usable

    @property
    def pressure(self) -> Pressure:
        """The worst of the host's and the GPU's as last heard, the watched manager's, and the kernel's.

        What the supervisor said holds until it says otherwise, or is lost. The kernel's stalls count as high
        for 10 s.
        """
        here, seen = self._here(), self._look()
        with here.lock:
            levels = (here.words.host, here.words.gpu, seen and seen.level, here.stalls.level())
        return max((level for level in levels if level), key=LEVELS.index)

    @property
    def advice(self) -> frozenset[str]:
        """What the supervisor advises, as last heard: `cool-down`, `ease-off`."""
        return self._here().words.advice

    @property
    def draining(self) -> bool:
        """Whether the supervisor has asked to finish what has begun and to take on nothing new."""
        return self._here().drain is not None

    def on_drain(self, callback: Callable[[Drain], object]) -> None:
        """Have `callback` called once when the supervisor asks to drain, by whichever call here hears of it.

        It runs in that call's thread, and what it raises is raised there. Call `drained` when all is done.
        """
        self._on_drain = callback

    def watch(self, manager: MemoryManager) -> None:
        """Report the level, the figures and the advice of `manager` from now on."""
        self._manager = manager

    def batches(self, figures: Mapping[str, object]) -> None:
        """Report how batches went from now on, by the keys of `batches` in `supervisor.guard.wire` alone."""
        self._here().batches = sound_batches(figures)

    def ready(self) -> None:
        """Say that the worker can serve."""
        self._here().ready = True
        self._say("READY=1", beat=True)

    def heartbeat(self) -> None:
        """Say that the work loop goes round; five times a second at most, so it costs next to nothing."""
        if self._clock() >= self._conversation.beat_due_s:
            self._say("WATCHDOG=1", beat=True)

    def progress(  # noqa: PLR0913 - the contract, of which most callers write two or three
        self,
        *,
        job: str = "",
        state: str = "processing",
        done: int = 0,
        total: int | None = None,
        position: int | None = None,
        batch_size: int | None = None,
        throughput: float | None = None,
        eta_s: float | None = None,
    ) -> None:
        """Say where a job stands, and beat; a new state or job at once, numbers five times a second at most.

        States are `queued`, `processing`, `completed` and `failed`. Throughput is in items a second; where it
        or `eta_s` is not given it is measured over the last half minute. Raises ValueError for another state.
        """
        if state not in STATES:
            raise ValueError(f"cannot report progress: {state!r} is none of {', '.join(STATES)}")
        here = self._here()
        before = here.progress
        here.progress = Progress(job, state, position, batch_size, done, total, throughput, eta_s)
        changed = before is None or state != before.state or job != before.job
        if changed or self._clock() >= here.beat_due_s:
            self._say("WATCHDOG=1", beat=True)

    def drained(self) -> None:
        """Say that nothing is left to finish, and nothing new is taken on."""
        self._here().drained = True
        self._say("STOPPING=1", beat=False)

    def poisoned(self, why: str) -> bool:
        """Say that nothing in this process can go on; return False where that could not be sent.

        It asks neither the device nor the manager, which may answer no more.
        """
        here = self._here()
        with here.lock:
            here.poisoned = text(why)
            return here.report(None, beat=False)

    def fileno(self) -> int:
        """Return what an event loop may watch, as in `loop.add_reader(supervisor, supervisor.poll)`.

        -1 where there is no supervisor; another one after a fork.
        """
        here = self._here()
        with here.lock:
            return -1 if here.link is None else here.link.fileno()

    def poll(self) -> None:
        """Hear what the supervisor has said, and report without a heartbeat where a report is due."""
        if self._clock() >= self._here().report_due_s:
            self._say(None, beat=False)
        else:
            self._hear()

    def close(self) -> None:
        """Close the sockets; to speak again opens them again."""
        here = self._here()
        with here.lock:
            here.close()

    def _here(self) -> Conversation:
        """Return the conversation of this process, begun anew in a child that was forked."""
        if os.getpid() != self._conversation.pid:
            self._conversation.close()
            self._conversation = Conversation(self._environment, self._clock)
        return self._conversation

    def _look(self) -> Snapshot | None:
        return None if self._manager is None else self._manager.snapshot()

    def _say(self, to_systemd: str | None, *, beat: bool) -> None:
        here = self._here()
        here.report_due_s = self._clock() + REPORT_S
        if beat:
            here.beat_due_s = here.report_due_s
        seen = None if here.link is None else self._look()  # without the lock: a device may be slow
        with here.lock:
            here.report(seen, beat=beat)
            if to_systemd is not None:
                here.tell_systemd(to_systemd)
        self._hear()

    def _hear(self) -> None:
        """Take in what has come, and tell of a request to drain once, without the lock."""
        here = self._here()
        with here.lock:
            here.hear()
            callback, drain = self._on_drain, here.drain
            if callback is None or drain is None or here.told_of_drain:
                return
            here.told_of_drain = True
        callback(drain)
