"""The lives of workers whose units run, and what happens to them that nobody here has ordered."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from supervisor.act.by_hand import started, wish_behind
from supervisor.act.exits import Ending, Exits
from supervisor.act.identity import PROC, hold, identify
from supervisor.act.last_words import may_tell, verdict_of
from supervisor.act.launcher import Tell
from supervisor.act.systemd_link import SystemdLink
from supervisor.act.unit_end import end_of
from supervisor.act.unit_jobs import UnitJobs
from supervisor.model.action import Launch
from supervisor.model.news import Exited, News, Notified, Reported
from supervisor.model.snapshot import Identity
from supervisor.sense.cgroup import CgroupTrees
from supervisor.sense.cgroup_events import CgroupEvents
from supervisor.systemd.bus import Heard, JobBegun, JobEnded, SystemdError, UnitChanged, UnitState
from supervisor.systemd.units import SLICE, worker_of

CGROUPS: Final = Path("/sys/fs/cgroup")
# How long systemd may take to tell of an end that the pidfd has shown already.
TOLD_S: Final = 5.0
# A worker that is held at its memory.high meets that limit 50 to 100 times a second.
STIRRED_S: Final = 0.1
RUNNING: Final = frozenset({"active", "reloading"})


class UnitLife(Struct):
    """One life of a worker, as far as its unit shows it."""

    order: Launch
    unit: str
    running: bool = False  # Launched was told, and Exited was not
    over: bool = False  # Exited or LaunchFailed was told
    signalled: bool = False  # by us
    stopping: bool = False  # its unit was told to stop, by us
    stopped_by_hand: bool = False  # its unit was told to stop, by somebody else
    cgroup: Path | None = None
    main_pid: int = 0  # once it was followed
    invocation: str = ""
    stirred_s: float = 0.0  # when it was last read for meeting a limit
    early: tuple[Notified | Reported, ...] = ()  # what it said before Launched was told
    by_hand: asyncio.Task[None] | None = None  # finds out what somebody else does to it, or what it died of


class UnitLives:
    """Follows every life through systemd's signals and its own pidfd, and tells how it ended."""

    def __init__(
        self,
        tell: Tell,
        warn: Callable[[str], None],
        nudge: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
        last_words: Callable[[str, str], Sequence[str]] = lambda _worker, _invocation: (),
    ) -> None:
        """Begin without any; `warn` is told what goes wrong beside a worker, `nudge` asks for a turn.

        `last_words` returns the last lines of a worker's invocation, in a thread. Raises OSError.
        """
        self.trees = CgroupTrees()
        self.link = SystemdLink(self._heard, self._lost, self._resync)
        self.jobs = UnitJobs()
        self._events = CgroupEvents(self._stir)
        self._exits = Exits(loop, self._gone)
        self._lives: dict[str, UnitLife] = {}  # by run, from its launch to its forgetting
        self._newest: dict[str, UnitLife] = {}  # by unit
        self._unasked: dict[str, str] = {}  # units that somebody else has started, and which invocation
        self._held: set[str] = set()  # units that systemd keeps loaded for this connection
        self._tasks: set[asyncio.Task[None]] = set()
        self._stirred: set[str] = set()
        self._tell = tell
        self._warn = warn
        self._nudge = nudge
        self._loop = loop
        self._last_words = last_words
        loop.add_reader(self._events.fileno(), self._events.drain)

    def begin(self, life: UnitLife) -> None:
        """Take in a life that is about to start, or that an earlier daemon has started."""
        self._lives[life.order.run] = self._newest[life.unit] = life

    def of(self, run: str) -> UnitLife | None:
        """Return a life that was not forgotten."""
        return self._lives.get(run)

    def newest(self, unit: str) -> UnitLife | None:
        """Return the newest life of a unit that was not forgotten."""
        return self._newest.get(unit)

    async def let_go(self, unit: str) -> None:
        """Have systemd forget a unit that has no file any more. Raises SystemdError."""
        self._unasked.pop(unit, None)
        self.link.systemd.forget(unit)
        if unit in self._held:
            self._held.discard(unit)
            await self.link.systemd.let_go(unit)

    async def hold(self, unit: str) -> None:
        """Keep systemd from forgetting how the unit ended before we have asked. Raises SystemdError."""
        if unit not in self._held:
            await self.link.systemd.hold(unit)
            self._held.add(unit)

    def follow(self, life: UnitLife, state: UnitState) -> Identity | None:
        """Watch the main process and the cgroup of a life; None where it is gone. Raises OSError."""
        identity = main_process(state)
        pidfd = None if identity is None else hold(identity)
        if identity is None or pidfd is None:
            return None
        run = life.order.run
        life.main_pid = identity.pid
        cgroup = cgroup_of_unit(life.unit, cgroup_of(identity.pid))
        life.running, life.invocation, life.cgroup = True, state.invocation, cgroup
        self._exits.watch(run, pidfd)
        self.trees.track(run, cgroup, identity)
        self._events.watch(run, cgroup)
        return identity

    def end(self, life: UnitLife, state: UnitState) -> None:
        """Tell the end of a life; after what somebody else is doing to it, where that is still found out."""
        run = life.order.run
        self._events.drain()
        life.running, life.over = False, True
        self._exits.drop(run)
        life.invocation = life.invocation or state.invocation  # it may be gone before it could be followed
        news = end_of(life.order.worker, run, state, self._events.counters(run), signalled=life.signalled)
        if may_tell(news) and life.invocation and not life.signalled and not life.stopped_by_hand:
            life.by_hand = self.go(self._tell_why(life, news, life.by_hand))
        else:
            self._tell_after(life, news)

    async def _tell_why(self, life: UnitLife, news: Exited, earlier: asyncio.Task[None] | None) -> None:
        """Tell an end with what the last lines say of it, once what somebody else did was told."""
        if earlier is not None:
            await earlier
        verdict = await verdict_of(partial(self._last_words, news.worker, life.invocation))
        self._tell(replace(news, verdict=verdict))

    def _tell_after(self, life: UnitLife, news: News) -> None:
        """Tell what follows from what somebody else does to a unit, once that was told."""
        if life.by_hand is not None and not life.by_hand.done():
            life.by_hand.add_done_callback(lambda _: self._tell(news))
        else:
            self._tell(news)

    def stirred(self) -> frozenset[str]:
        """Return the workers that have met a limit of their cgroup since this was last asked."""
        stirred, self._stirred = frozenset(self._stirred), set()
        return stirred

    def vacate(self, life: UnitLife) -> None:
        """Note that the cgroup of a life that is over belongs to another one by now."""
        life.cgroup = None
        self.trees.track(life.order.run, CGROUPS / "gone" / life.unit, None)

    def signal(self, run: str, signum: int) -> None:
        """Send a signal to the main process, without systemd; without effect once it is gone."""
        self._exits.signal(run, signum)

    def forget(self, run: str) -> UnitLife | None:
        """Let go of a life and return it, None where it is not known."""
        life = self._lives.pop(run, None)
        if life is None:
            return None
        self._exits.drop(run)
        self._events.forget(run)
        self.trees.forget(run)
        if self._newest.get(life.unit) is life:
            del self._newest[life.unit]
        return life

    def go(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Begin what the loop does not wait for."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def close(self) -> None:
        """Watch nothing any longer."""
        for task in self._tasks:
            task.cancel()
        self.link.close()
        self._exits.close()
        self._loop.remove_reader(self._events.fileno())
        self._events.close()
        self.trees.close()

    def changed(self, unit: str, state: UnitState) -> None:
        """Take a new state of a unit."""
        life = self._newest.get(unit)
        if life is not None and life.running:
            if state.invocation != life.invocation and state.invocation:
                self.end(life, UnitState())  # how the earlier one ended, nobody can tell any more
            elif state.main_pid == 0 and (state.code or state.over):
                self.end(life, state)
        if (life is None or life.over) and state.active in RUNNING and state.main_pid:
            self._started_by_hand(unit, life, state)

    def _started_by_hand(self, unit: str, former: UnitLife | None, state: UnitState) -> None:
        worker = worker_of(unit)
        if worker is None or self._unasked.get(unit) == state.invocation:
            return
        if former is not None and former.invocation == state.invocation:
            return  # what is left of the one that has just ended
        self._unasked[unit] = state.invocation
        if former is None:
            self._tell(started(unit, worker))
        else:
            self.vacate(former)
            self._tell_after(former, started(unit, worker))

    def _stir(self, run: str) -> None:
        life, now_s = self._lives.get(run), self._loop.time()
        if life is not None and now_s >= life.stirred_s + STIRRED_S:
            life.stirred_s = now_s
            self._stirred.add(life.order.worker)
            self._nudge()

    def _heard(self, heard: Heard) -> None:
        if isinstance(heard, UnitChanged):
            self.changed(heard.unit, heard.state)
        elif isinstance(heard, JobEnded):
            self.jobs.ended(heard)
        elif not self.jobs.is_ours(heard):
            self._job_of_others(heard)

    def _job_of_others(self, begun: JobBegun) -> None:
        life = self._newest.get(begun.unit)
        if life is None or not life.running or life.stopping:
            return
        life.by_hand = self.go(self._find_out(begun, life, life.by_hand))

    async def _find_out(self, begun: JobBegun, life: UnitLife, earlier: asyncio.Task[None] | None) -> None:
        """Tell what a job of somebody else does to a life, once what earlier jobs do was told."""
        if earlier is not None:
            await earlier
        if life.stopped_by_hand:  # and what follows is told when it happens
            return
        try:
            wish = await wish_behind(self.link.systemd, begun, life.order.worker, life.invocation)
        except SystemdError:
            return
        if wish is not None:
            life.stopped_by_hand = True
            self._tell(wish)

    def _gone(self, run: str, _ending: Ending) -> None:
        """Take the end of a main process; systemd, whose child it was, tells how it ended.

        By then its cgroup may be removed, so the kernel's counters are read now.
        """
        self._events.counters(run)
        self._loop.call_later(TOLD_S if self.link.up else 0.0, self._presume_ended, run)

    def _presume_ended(self, run: str) -> None:
        life = self._lives.get(run)
        if life is not None and life.running:
            self.end(life, UnitState())

    def _lost(self, why: str) -> None:
        self._held.clear()
        self.jobs.lost(f"the connection to the system bus is gone: {why}")
        self._warn(f"cannot hear systemd: {why}; caps and emergencies are acted on all the same")

    async def _resync(self) -> None:
        """Ask for everything that a lost connection has kept from us."""
        for life in [one for one in self._lives.values() if one.running]:
            try:
                await self.hold(life.unit)
                self.changed(life.unit, await self.link.systemd.state(life.unit))
            except SystemdError as error:
                self._warn(str(error))
                return


def main_process(state: UnitState) -> Identity | None:
    """Return the main process of a unit; None where it has none."""
    try:
        return identify(state.main_pid) if state.main_pid else None
    except OSError:  # gone already
        return None


def cgroup_of(pid: int, proc: Path = PROC, cgroups: Path = CGROUPS) -> Path | None:
    """Return the directory of a process' cgroup (v2); None where it is gone or has none."""
    try:
        text = (proc / str(pid) / "cgroup").read_text(encoding="utf-8", errors="surrogateescape")
    except (FileNotFoundError, ProcessLookupError):
        return None
    for line in text.splitlines():
        if line.startswith("0::/"):
            return cgroups / line.removeprefix("0::/").removesuffix(" (deleted)")
    return None


def cgroup_of_unit(unit: str, found: Path | None) -> Path:
    """Return the unit's own cgroup, given that of its main process.

    That is in systemd's own for a moment after its fork, and may make one below its unit's later: only a
    directory with the unit's name is ever signalled as a whole.
    """
    for path in () if found is None else (found, *found.parents):
        if path.name == unit:
            return path
    return usual_cgroup(unit)


def usual_cgroup(unit: str) -> Path:
    """Return where systemd places a unit of the slice, whose dash makes it a part of gpu.slice."""
    return CGROUPS / "gpu.slice" / SLICE / unit
