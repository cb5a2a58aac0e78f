"""What the daemon remembers between two turns. Times are monotonic and hold within one boot."""

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from supervisor.model.action import Action
from supervisor.model.alert import AlertStatus
from supervisor.model.fit import Fit, Reckoning
from supervisor.model.news import OomKilled, XidSeen
from supervisor.model.phase import Cause, Phase, Pressure
from supervisor.model.plan import AlertRule, Setting, WorkerPlan
from supervisor.model.reading import NOT_READ_YET, Missing
from supervisor.model.report import Report, Words
from supervisor.model.rungs import MadeRung
from supervisor.model.serving import SlotProgress
from supervisor.model.snapshot import Identity
from supervisor.model.trend import Trend


class After(StrEnum):
    """What follows once a stop is complete."""

    RESTART = "restart"
    REST = "rest"  # stays stopped
    DONE = "done"  # stays stopped too: its work is done
    HOLD = "hold"
    REMOVE = "remove"  # it is no longer in the configuration


class Budget(StrEnum):
    """What a failure is counted with: one kind of death does not use up the patience for another."""

    ORDINARY = "ordinary"
    OOM = "oom"
    PORT = "port"
    GPU = "gpu"
    LADDER = "ladder"  # it goes on with other settings, so nothing is counted


class Window(Struct, frozen=True):
    """The last verdicts of fresh readings against one cap, oldest first."""

    over: tuple[bool, ...] = ()
    read_s: float = 0.0  # when the newest of them was read


class Footprint(Struct, frozen=True):
    """What one life took, in bytes: steady is the most until it had warmed up, peak the most of all."""

    memory_steady_bytes: int | None = None
    memory_peak_bytes: int | None = None
    vram_steady_bytes: Mapping[str, int] = {}  # by UUID
    vram_peak_bytes: Mapping[str, int] = {}


class Learned(Struct, frozen=True):
    """What the last lives of a worker took, newest last, and what it was that ran."""

    command: tuple[str, ...] = ()
    settings: Mapping[str, Setting] = {}
    lives: tuple[Footprint, ...] = ()


class Standstill(Struct, frozen=True):
    """A llama.cpp server that is busy, and how long it shows no progress.

    `since_s` is when it last moved, or was last seen to compute. `progress` is None while its queue is
    blocked. The CPU time is that of the newest reading.
    """

    since_s: float
    progress: tuple[SlotProgress, ...] | None = None
    cpu_s: float | Missing = NOT_READ_YET
    cpu_read_s: float = 0.0


class Told(Struct, frozen=True):
    """What people were last told of a worker's reports, so that each change is told once."""

    level: Pressure = Pressure.NORMAL
    oom_events: int = 0
    recoveries: int = 0
    job: tuple[str, str] = ("", "")  # its name and its state
    poisoned: str | None = None
    told_s: float | None = None


class Life(Struct, frozen=True):
    """One run of a worker, from its launch to the moment all its memory is back."""

    run: str  # unique over all workers and restarts of the daemon
    plan: WorkerPlan  # as it was launched: a changed configuration is seen by comparing
    launched_s: float
    launched_wall_s: float
    settings: Mapping[str, Setting] = {}
    fit: Fit | None = None  # what it was reckoned to need, of a llama.cpp server
    rung: int = 0  # that its settings are of; a reset changes the worker's, not the one of a life that runs
    gpus: tuple[str, ...] = ()  # UUIDs that it is pinned to
    identity: Identity | None = None
    ready_s: float | None = None
    max_age_s: float | None = None  # with its jitter, drawn once
    start_by_s: float | None = None
    memory: Window = Window()
    vram: Window = Window()
    was_below_cap: bool = False  # seen below its memory cap after warm-up
    last_memory_bytes: int | None = None
    growth_bytes_s: float = 0.0  # between the last two readings
    sample_s: float | None = None  # when its memory is to be read again, where that is before the next look
    memory_trend: Trend = Trend()  # since it is ready and warm
    vram_trend: Trend = Trend()
    leak_told: bool = False
    seen_gpus: tuple[str, ...] = ()  # UUIDs on which it held memory
    heartbeat_s: float | None = None
    probe_due_s: float | None = None  # None: none is wanted
    probe_sent_s: float | None = None  # None: none is under way
    unready: str | None = None  # the last answer of a readiness probe, while it is not ready
    unhealthy: int = 0  # failed health probes in a row
    still: Standstill | None = None  # None while it is idle, or its progress is not judged
    unjudged: str | None = None  # why its progress could not be judged, as it was last told
    residual_bytes: Mapping[str, int] = {}  # by GPU, before the launch: used - what processes held
    footprint: Footprint = Footprint()
    report: Report | None = None  # the last one of its guard
    reported_s: float | None = None
    told: Told = Told()
    words: Words | None = None  # what its guard was last told
    xid: XidSeen | None = None  # the last that the kernel's log has of it, or of a GPU that it uses
    oom_kill: OomKilled | None = None  # the last of its tree that the kernel's log has


class Stop(Struct, frozen=True):
    """A stop under way. Its steps are decisions of different turns."""

    cause: Cause
    reason: str
    then: After
    began_s: float
    drain_by_s: float | None = None
    signalled_s: float | None = None
    again_s: float | None = None  # when the stop signal is sent a second time
    kill_s: float | None = None  # when SIGKILL follows, or was first sent
    killed_s: float | None = None  # when it was last sent
    exited_s: float | None = None
    reclaim_by_s: float | None = None
    overdue: bool = False  # told that it does not give back its memory
    incident: str = ""
    counts: bool = False  # against the restart budget
    budget: Budget = Budget.ORDINARY


class Pending(Struct, frozen=True):
    """A restart that may wait for a good moment."""

    cause: Cause
    reason: str
    drain: bool = True


class LastRestart(Struct, frozen=True):
    """The last restart, for showing."""

    cause: Cause
    reason: str
    wall_s: float


class Footing(Struct, frozen=True):
    """What a rung was found for; where that has changed, the ladder begins anew."""

    key: str  # of command, settings, ladder, environment and wanted GPUs
    gpus: tuple[str, ...] = ()  # UUIDs that it ran on


class WorkerMemory(Struct, frozen=True):
    """One worker, over all its lives."""

    name: str
    phase: Phase = Phase.WAITING
    since_s: float = 0.0
    wanted: bool = True  # False once an operator has stopped it, or its work is done
    life: Life | None = None
    stop: Stop | None = None
    lives: int = 0
    restarts: int = 0
    restarts_by: Mapping[Cause, int] = {}
    last: LastRestart | None = None
    retry_s: float = 0.0  # not started before this
    failures_s: tuple[float, ...] = ()  # when its ordinary failures happened, oldest first
    other_failures_s: Mapping[Budget, tuple[float, ...]] = {}  # and those with a budget of their own
    backoff: int = 0  # failures in a row
    above_cap_lives: int = 0  # lives in a row that never were below their cap
    peak_memory_bytes: int = 0  # of the last life
    learned: Learned = Learned()
    reckoning: Reckoning | None = None  # of a llama.cpp server
    starved: Fit | None = None  # what was chosen for the last life that ran out of memory, of that memory
    pending: Pending | None = None
    waits_for: str | None = None
    held: str | None = None
    done: str | None = None  # how it ended, while it is stopped because its work is done
    oom_events: int = 0  # since its ladder was begun
    rung: int = 0
    made: tuple[MadeRung, ...] = ()  # its ladder as far as it came, where none is written
    starved_gpus: tuple[str, ...] = ()  # UUIDs on which it ran out of memory since its ladder was begun
    footing: Footing | None = None
    incident: str | None = None  # open until the successor is ready
    down_for: Cause | None = None  # what took it down first, until it is ready again or rests
    due_s: float = 0.0  # nothing is to be judged before this unless something was read or happened


class LastXid(Struct, frozen=True):
    """The last Xid of a GPU: its code, what its line said, and when (Unix time)."""

    code: int
    text: str
    wall_s: float
    seq: int  # of its line in the kernel's log: what is no newer was counted


class GpuMemory(Struct, frozen=True):
    """One GPU, as far as it must be remembered; by PCI address where the driver does not list it."""

    pressure: Pressure = Pressure.NORMAL
    known: bool = False  # its memory could be read when it was last looked at
    above_since_s: float | None = None  # above gpu.restart_above
    victim: str | None = None  # the worker that is restarted to relieve it
    quarantine: str | None = None  # why nothing is started or restarted on it
    residual_limit_bytes: int | None = None  # quarantined until what no process holds is down to this
    until_reset: bool = False  # quarantined until an operator resets a worker on it
    hot: bool = False
    near_power_s: float | None = None  # when it was last near its power limit; None: not lately
    xids: int = 0  # in this boot, as far as a daemon was there to read of them
    last_xid: LastXid | None = None
    xids_told_s: Mapping[int, float] = {}  # when each code was last told: some come a thousand times a second


class HostMemory(Struct, frozen=True):
    """The machine, as far as it must be remembered."""

    pressure: Pressure = Pressure.NORMAL
    stalled_since_s: float | None = None
    scanned: int | None = None
    scanned_s: float | None = None  # when reclaim was last seen at work
    victim: str | None = None  # the one being ended; the next waits for its memory
    victim_s: float = 0.0  # when it was chosen; once it is gone, when it was gone
    helpless: bool = False  # told that there is nothing left to end


class AlertMemory(Struct, frozen=True):
    """A rule that holds of one subject: pending until it was told. `number` is of all that ever began."""

    rule: str
    number: int
    since_s: float
    since_wall_s: float
    worker: str | None = None
    gpu: str | None = None
    told_s: float | None = None  # when it was last told that it fires; None: it is pending


class AlertsMemory(Struct, frozen=True):
    """Every alert, as far as it must be remembered. All but `judged_s` changes with steps only."""

    rules: tuple[AlertRule, ...] = ()  # by which it was last judged
    active: Mapping[str, AlertMemory] = {}  # by rule and subject
    resolved: tuple[AlertStatus, ...] = ()  # the last ones, for showing
    begun: int = 0
    judged_s: float = 0.0
    full: bool = False  # told that there are more than are followed


class Memory(Struct, frozen=True):
    """All of it."""

    instance: str  # drawn once, so that runs of two daemons never have one name
    workers: Mapping[str, WorkerMemory] = {}
    host: HostMemory = HostMemory()
    gpus: Mapping[str, GpuMemory] = {}
    stopping: bool = False  # the daemon is ending
    hurry: bool = False
    alerts: AlertsMemory = AlertsMemory()


class Decision(Struct, frozen=True):
    """What one turn came to."""

    actions: tuple[Action, ...]
    memory: Memory
    wake_s: float | None = None  # the next deadline, monotonic
    done: bool = False  # the daemon was told to end, and every worker is gone or shall run on
