"""What happened since the last turn: outcomes of actions, ends of processes, wishes of operators."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from supervisor.model.fit import Fit
from supervisor.model.report import Report
from supervisor.model.rungs import Rungs
from supervisor.model.serving import Serving
from supervisor.model.snapshot import Identity
from supervisor.model.verdict import Verdict

Purpose = Literal["ready", "health", "drain"]
Wish = Literal["start", "stop", "restart", "reset"]


class Launched(Struct, frozen=True, tag="launched"):
    """The worker's program runs."""

    worker: str
    run: str
    identity: Identity


class LaunchFailed(Struct, frozen=True, tag="launch-failed"):
    """The worker could not be launched, or what was launched before a crash of the daemon is not there."""

    worker: str
    run: str
    why: str
    hopeless: bool = False  # trying the same again cannot help: no such program, no such user


class Exited(Struct, frozen=True, tag="exited"):
    """The worker's main process is gone. Both are None when nobody could see how it ended."""

    worker: str
    run: str
    code: int | None = None
    signal: int | None = None
    oom_kill: bool = False  # by the kernel's OOM killer
    detail: str = ""  # what else is known of the end, in words
    counters: Mapping[str, int] = {}  # memory.events of its cgroup in this life
    verdict: Verdict | None = None  # by its last lines, where nobody had asked it to end


class XidSeen(Struct, frozen=True, tag="xid-seen"):
    """The kernel's log has an Xid of a GPU. `pid` is evidence, and is never signalled."""

    code: int
    text: str
    bus_id: str
    seq: int  # of its line, the last of `count`: it counts up within a boot
    at_s: float
    gpu: str | None = None  # UUID; None where no GPU is known at `bus_id`
    pid: int | None = None
    worker: str | None = None  # whose tree the pid is of, and which life
    run: str | None = None
    count: int = 1  # the same came so often


class OomKilled(Struct, frozen=True, tag="oom-killed"):
    """The kernel's log says that its OOM killer has ended a process of the worker's tree."""

    worker: str
    run: str
    pid: int
    name: str
    at_s: float
    scope: str | None = None  # whose memory there was not enough of, in words
    anon_bytes: int | None = None
    file_bytes: int | None = None
    shmem_bytes: int | None = None


class Probed(Struct, frozen=True, tag="probed"):
    """A probe ended. `good` False is an observation: refused, wrong answer or past its deadline."""

    worker: str
    run: str
    purpose: Purpose
    good: bool
    detail: str = ""
    serving: Serving | None = None  # of a llama.cpp server that was asked for its work


class Notified(Struct, frozen=True, tag="notified"):
    """The worker wrote to its NOTIFY_SOCKET (sd_notify)."""

    worker: str
    run: str
    ready: bool = False
    stopping: bool = False
    watchdog: bool = False  # WATCHDOG=1
    trigger: bool = False  # WATCHDOG=trigger: it says itself that it is broken
    extend_s: float | None = None  # EXTEND_TIMEOUT_USEC
    status: str | None = None


class Reported(Struct, frozen=True, tag="reported"):
    """The worker's guard has reported. Times are monotonic."""

    worker: str
    run: str
    report: Report
    heard_s: float
    beat_s: float | None = None  # when its work loop was last heard
    quiet: bool = False  # nothing in it calls for a turn of its own


class Reckoned(Struct, frozen=True, tag="reckoned"):
    """What a worker that is to start needs was reckoned: `fits` from the best to the poorest."""

    worker: str
    asked_s: float  # when: the answer to another question is none
    fits: tuple[Fit, ...] = ()
    missing: str | None = None  # why it could not be reckoned
    rungs: Rungs = Rungs()  # where no ladder is written


class Asked(Struct, frozen=True, tag="asked"):
    """An operator asked for something."""

    wish: Wish
    workers: tuple[str, ...]
    now: bool = False  # skip draining
    reason: str = ""
    by: str = ""  # "uid 1000, pid 4711"


class Shutdown(Struct, frozen=True, tag="shutdown"):
    """The daemon was told to end: stop everything; with `hurry`, at once; with `leave`, nothing at all."""

    hurry: bool = False
    leave: bool = False  # the workers run on, and the next daemon adopts them


KernelNews = XidSeen | OomKilled
LifeNews = Launched | LaunchFailed | Exited | OomKilled | Probed | Notified | Reported  # of one life
News = LifeNews | XidSeen | Reckoned | Asked | Shutdown
