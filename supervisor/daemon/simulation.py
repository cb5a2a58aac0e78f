"""What the supervisor would have done over a trace: the same decisions, in a world that follows it.

The world is simple. Whatever is launched runs and is ready at once, whatever is told to drain is idle, and
what gets its stop signal ends; a GPU is always there, health and heartbeats are always good. A worker holds
what its trace says, until it is restarted: from then on it holds as much less as its trace had risen since
its first minutes, so that it grows on from its baseline as the trace does. What it holds less than in the
trace, the host has more.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import median_high
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from supervisor.daemon.trace import EMPTY, UNKNOWN, Series, Trace
from supervisor.decide.turn import decide
from supervisor.model.action import Action, Kill, Launch, Notice, Probe, Reckon, Signal
from supervisor.model.fit import Fit
from supervisor.model.memory import Memory
from supervisor.model.news import Exited, Launched, News, Notified, Probed, Reckoned
from supervisor.model.plan import GpuChoice, NotifyTarget, Plan, WorkerPlan
from supervisor.model.reading import Missing
from supervisor.model.snapshot import HostSample, Identity, Sighting, Snapshot

# The lowest reading of this long a time is a worker's baseline: it rests in it, if it ever does.
BASELINE_S: Final = 300.0
BEGIN_S: Final = 1000.0  # monotonic time of the first reading; 0 would be "never read"
PLENTY_BYTES: Final = 1 << 50  # where the trace does not tell what the host has
MOST_TURNS_AT_ONCE: Final = 1000  # that one reading may take until all has been heard
# Notices that say something about what happened, beside the restarts themselves.
TOLD: Final = frozenset(
    {"leak found", "worker held", "host memory helpless", "alert firing", "alert resolved"}
)


class Restart(Struct, frozen=True):
    """One restart that would have been, in the time of the trace."""

    time_s: float
    worker: str
    cause: str
    reason: str
    memory_bytes: int | None  # when it was last read


class Told(Struct, frozen=True):
    """One thing that would have been told."""

    time_s: float
    worker: str | None
    event: str
    reason: str


class Course(Struct, frozen=True):
    """One worker over the whole trace."""

    name: str
    restarts: int
    causes: Mapping[str, int]
    peak_memory_bytes: int
    traced_peak_memory_bytes: int
    phase: str
    held: str | None


class Outcome(Struct, frozen=True):
    """What would have been done."""

    from_s: float
    to_s: float
    looks: int
    restarts: tuple[Restart, ...]
    notices: tuple[Told, ...]
    workers: tuple[Course, ...]


def simulate(plan: Plan, trace: Trace) -> Outcome:
    """Run the decisions over a trace; the workers of the plan that it does not know are left out."""
    return _World(_fit(plan, trace), trace).run()


def _fit(plan: Plan, trace: Trace) -> Plan:
    workers = {name: _bare(one, trace) for name, one in plan.workers.items() if name in trace.workers}
    steps = [later - sooner for sooner, later in zip(trace.times_s, trace.times_s[1:], strict=False)]
    poll_s = max(plan.poll_interval_s, median_high(steps)) if steps else plan.poll_interval_s
    return replace(plan, workers=workers, poll_interval_s=poll_s)


def _bare(worker: WorkerPlan, trace: Trace) -> WorkerPlan:
    """Return the worker without what a trace cannot tell."""
    after = tuple(base for base in worker.after if base in trace.workers)
    return replace(worker, gpus=GpuChoice(), health=None, heartbeat_s=None, after=after)


class _Body:
    """One worker in the world: its place in the trace, and how much less than there it holds."""

    def __init__(self, name: str, series: Series) -> None:
        self.name = name
        self.run = ""
        self.lives = False
        self.lower_memory = 0
        self.lower_vram = 0
        self.peak = 0
        self.memory: int | Missing = EMPTY
        self.vram: int | Missing = EMPTY
        self.series = series
        self._next = 0
        self._base_memory = _lowest(series.memory_bytes, series, 0)
        self._base_vram = _lowest(series.vram_bytes, series, 0)

    def read(self, at_s: float) -> bool:
        """Take the reading of `at_s`, if the trace has one."""
        at, series = self._next, self.series
        if at >= len(series.times_s) or series.times_s[at] > at_s:
            return False
        self._next = at + 1
        self.memory, self.lower_memory = _less(series.memory_bytes[at], self.lower_memory, self._base_memory)
        self.vram, self.lower_vram = _less(series.vram_bytes[at], self.lower_vram, self._base_vram)
        if self.lives and not isinstance(self.memory, Missing):
            self.peak = max(self.peak, self.memory)
        return True

    def born(self, run: str, *, again: bool) -> None:
        """Begin a life at the baseline."""
        self.run, self.lives = run, True
        if again:
            at = min(self._next, len(self.series.times_s) - 1)
            self.lower_memory = max(0, _lowest(self.series.memory_bytes, self.series, at) - self._base_memory)
            self.lower_vram = max(0, _lowest(self.series.vram_bytes, self.series, at) - self._base_vram)


def _lowest(readings: Sequence[int], series: Series, at: int) -> int:
    until = bisect_left(series.times_s, series.times_s[at] + BASELINE_S, lo=at)
    return min((one for one in readings[at : max(until, at + 1)] if one != UNKNOWN), default=0)


def _less(reading: int, lower: int, base: int) -> tuple[int | Missing, int]:
    """Return what is held, and by how much that is less: never less than the baseline for it alone."""
    if reading == UNKNOWN:
        return EMPTY, lower
    held = max(reading - lower, min(reading, base))
    return held, reading - held


class _World:
    """The machine of the trace, with a daemon on it."""

    def __init__(self, plan: Plan, trace: Trace) -> None:
        self._plan = plan
        self._trace = trace
        self._memory = Memory("simulated")
        self._bodies = {name: _Body(name, trace.workers[name]) for name in plan.workers}
        self._sightings: dict[str, Sighting] = {}
        self._available: int | None = None
        self._inbox: list[News] = []
        self._now_s = BEGIN_S
        self._restarts: list[Restart] = []
        self._told: list[Told] = []

    def run(self) -> Outcome:
        """Follow the trace to its end."""
        times = self._trace.times_s
        first_s, wake_s = times[0], None
        for at, time_s in enumerate(times):
            look_s = time_s - first_s + BEGIN_S
            # Deadlines between two readings. One that stays in the past waits for a reading.
            while wake_s is not None and self._now_s < wake_s < look_s:
                self._now_s = wake_s
                wake_s = self._settle()
            self._now_s = look_s
            self._read(time_s, self._trace.available_bytes[at])
            wake_s = self._settle()
        return Outcome(
            first_s,
            times[-1],
            len(times),
            tuple(self._restarts),
            tuple(self._told),
            tuple(self._courses()),
        )

    def _read(self, time_s: float, available: int) -> None:
        less = 0
        for body in self._bodies.values():
            fresh = body.read(time_s)
            less += body.lower_memory if body.lives else body.lower_memory + _known(body.memory)
            if fresh and body.lives:
                self._see(body)
        if available != UNKNOWN:
            self._available = available + less

    def _see(self, body: _Body) -> None:
        self._sightings[body.name] = Sighting(
            body.run,
            self._now_s,
            pids=(1,) if body.lives else (),
            memory_bytes=body.memory if body.lives else 0,
            vram_read_s=self._now_s,
            vram_bytes=body.vram if body.lives else 0,
        )

    def _settle(self) -> float | None:
        """Take turns at one moment until nothing more is heard; return the next deadline."""
        wake_s = None
        for _ in range(MOST_TURNS_AT_ONCE):
            news, self._inbox = tuple(self._inbox), []
            decision = decide(self._plan, self._memory, self._snapshot(), news)
            before, self._memory, wake_s = self._memory, decision.memory, decision.wake_s
            for action in decision.actions:
                self._carry_out(action)
            if decision.actions:
                self._note(before)
            if not self._inbox:
                break
        return wake_s

    def _snapshot(self) -> Snapshot:
        available = PLENTY_BYTES if self._available is None else self._available
        host = HostSample(
            self._now_s, memory_total_bytes=PLENTY_BYTES, memory_available_bytes=available, swap_total_bytes=0
        )
        # Not one that is changed later: a decision may keep what it was given.
        return Snapshot(self._now_s, self._now_s - BEGIN_S, host, workers=dict(self._sightings))

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, Notice):
            if action.event in TOLD:
                self._told.append(Told(self._traced_s(), action.worker, action.event, action.reason))
        elif isinstance(action, Launch):
            body = self._bodies[action.worker]
            body.born(action.run, again=body.run != "")
            self._inbox.append(Launched(action.worker, action.run, Identity("simulated", 1, 1)))
            if isinstance(action.plan.ready, NotifyTarget):
                self._inbox.append(Notified(action.worker, action.run, ready=True))
        elif isinstance(action, Probe):
            self._inbox.append(
                Probed(action.worker, action.run, action.purpose, good=True, detail="simulated")
            )
        elif isinstance(action, Reckon):  # no model is read: what is `auto` stays so, and fits
            self._inbox.append(Reckoned(action.worker, action.asked_s, (Fit(),), "simulated"))
        elif isinstance(action, Signal | Kill):
            self._end(self._bodies[action.worker], action)

    def _end(self, body: _Body, action: Signal | Kill) -> None:
        if not body.lives or body.run != action.run:
            return
        body.lives = False
        self._see(body)
        killed = isinstance(action, Kill)
        self._inbox.append(Exited(body.name, body.run, None if killed else 0, 9 if killed else None))

    def _note(self, before: Memory) -> None:
        for name, worker in self._memory.workers.items():
            past = before.workers.get(name)
            if past is None or worker.restarts == past.restarts or worker.last is None:
                continue
            life = past.life
            memory = None if life is None else life.last_memory_bytes
            self._restarts.append(
                Restart(self._traced_s(), name, worker.last.cause.value, worker.last.reason, memory)
            )

    def _traced_s(self) -> float:
        return round(self._now_s - BEGIN_S + self._trace.times_s[0], 3)

    def _courses(self) -> Iterator[Course]:
        for name, body in self._bodies.items():
            worker = self._memory.workers[name]
            causes = Counter(one.cause for one in self._restarts if one.worker == name)
            traced = max(body.series.memory_bytes)
            yield Course(
                name,
                worker.restarts,
                dict(causes),
                body.peak,
                max(0, traced),
                worker.phase.value,
                worker.held,
            )


def _known(reading: int | Missing) -> int:
    return 0 if isinstance(reading, Missing) else reading
