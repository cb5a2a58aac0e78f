"""Launcher `direct`: workers are children of the daemon, without root and without systemd."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from supervisor.act.adoption import begun_without_identity, main_process, recorded_identity, wait_for_marks
from supervisor.act.drain_command import DrainCommands
from supervisor.act.exits import Ending, Exits
from supervisor.act.hearing import Callbacks
from supervisor.act.identity import hold, identify
from supervisor.act.inheritance import become_subreaper, hand_down_default_signals, raise_file_limit
from supervisor.act.last_words import may_tell, verdict_of
from supervisor.act.launcher import Tell
from supervisor.act.notify_socket import NotifySockets
from supervisor.act.orphans import reap_orphans
from supervisor.act.program import credentials_of, worker_program
from supervisor.act.refusal import CannotLaunchError, because
from supervisor.act.runs import Run, Runs
from supervisor.act.senders import in_tree
from supervisor.act.sole import SoleOwner
from supervisor.act.spawn import Child, spawn
from supervisor.act.strays import find_strays
from supervisor.act.tree_kill import kill_tree
from supervisor.act.worker_logs import WorkerLogs
from supervisor.model.action import Advise, Forget, Kill, Launch, Signal
from supervisor.model.memory import Life
from supervisor.model.news import Exited, Launched, LaunchFailed
from supervisor.model.plan import NotifyTarget, Plan
from supervisor.model.snapshot import Identity
from supervisor.sense.forest import Forest, Member, Root
from supervisor.sense.oom_count import oom_kills
from supervisor.sense.procfs import boot_id

STRAYS_GONE_S: Final = 5.0  # a process of many GB takes a second or two to go
# The kernel logs a kill right after its signal, unless it is preempted in between.
KERNEL_SAYS_S: Final = 0.1


class LaunchPlaces(Struct, frozen=True):
    """Where a launcher keeps things. Run ids begin with `instance` and a hyphen."""

    runtime_dir: Path  # of this boot: records of runs and notify sockets
    log_dir: Path
    instance: str


class DirectLauncher:
    """Starts, signals, ends and finds again workers that are plain processes; see `Launcher`.

    Each has its own session and is known by boot id, pid and start time, and held by its pidfd. Used
    in the thread of its event loop only.
    """

    kind = "direct"

    def __init__(
        self,
        places: LaunchPlaces,
        forest: Forest,
        tell: Tell,
        loop: asyncio.AbstractEventLoop,
        warn: Callable[[str], None],
    ) -> None:
        """Become the reaper of all orphans below, and the only daemon at `places`.

        `warn` is told what goes wrong beside a worker. Changes this process: subreaper, ignored signals,
        its limit of open files. Raises OSError, also where another daemon is at work.
        """
        self._sole = SoleOwner(places.runtime_dir)
        become_subreaper()
        hand_down_default_signals()
        self._file_limits = raise_file_limit()
        self.output = WorkerLogs(places.log_dir, warn=warn)
        self.commands = DrainCommands(self.output)
        self._places = places
        self._boot_id = boot_id(Path("/proc"))
        self.trees = self._forest = forest
        self._tell = tell
        self._warn = warn
        self._trimming: asyncio.Task[None] | None = None
        self._untrimmed: tuple[str, ...] = ()  # what could not be shortened, as it was last told
        self._runs = Runs(places.runtime_dir / "runs")
        callbacks = Callbacks(tell, warn, self._may_speak)
        self._notify = NotifySockets(places.runtime_dir / "notify", callbacks, loop)
        self._exits = Exits(loop, self._ended)
        self._loop = loop
        self._asked: set[str] = set()  # runs that were sent a signal
        self._oom_kills = oom_kills()  # on the whole machine, when it was last asked
        self._telling: set[asyncio.Task[None]] = set()
        self._lives: dict[str, Run] = {}  # by run, from its launch to its forgetting

    def stirred(self) -> frozenset[str]:
        """Return nobody: the kernel limits none of them."""
        return frozenset()

    async def open(self, plan: Plan) -> None:
        """Do nothing: all is there."""
        del plan

    def launch(self, order: Launch) -> None:
        """Start one life, unless anything of an earlier one of this worker is alive."""
        try:
            self._refuse_a_second(order)
            self._launch(order)
        except CannotLaunchError as refusal:
            self._tell(LaunchFailed(order.worker, order.run, refusal.why, refusal.hopeless))
        except OSError as error:
            failure = because(f"launch {order.worker}", error)
            self._tell(LaunchFailed(order.worker, order.run, failure.why, failure.hopeless))

    def signal(self, order: Signal) -> None:
        """Send one signal to the main process; without effect once it is gone. Raises OSError."""
        self._asked.add(order.run)
        self._exits.signal(order.run, order.signum)

    def kill(self, order: Kill) -> None:
        """Send SIGKILL to the whole tree, found anew; without effect on what is gone. Raises OSError.

        A main process without others is not looked for twice: full passes for each of 500 workers that
        are killed together would stop the loop for 15 s. What it forked meanwhile shows in the next turn.
        """
        self._asked.add(order.run)
        try:
            self._exits.signal(order.run, signal.SIGKILL)  # also where /proc cannot be read
        finally:  # also where the main process refuses it, being another user's by now
            self._forest.refresh()
            if len(self._forest.members(order.run)) > 1 or not self._exits.watching(order.run):
                kill_tree(lambda: self._members_now(order.run))

    def forget(self, order: Forget) -> None:
        """Let go of a life: its record, its socket and its tree. Raises OSError."""
        self._exits.drop(order.run)
        self._forest.forget(order.run)
        self._asked.discard(order.run)
        if self._lives.pop(order.run, None) is not None:
            self._notify.drop(order.worker)
            self._runs.remove(order.worker, order.run)

    def advise(self, order: Advise) -> None:
        """Tell a life's guards how things stand."""
        self._notify.say(order.worker, order.run, order.words)

    async def adopt(self, lives: Mapping[str, Life]) -> Mapping[str, Identity]:
        """Find the lives of an earlier daemon; blocks for up to 0.5 s. Raises OSError.

        A life with an identity is that process or it is gone: boot id, pid and start time decide. One
        whose launch was begun and not recorded is looked for by the marker in its environment.
        """
        records = self._runs.all()
        marked = wait_for_marks(self._forest.marked, begun_without_identity(lives, records))
        found: dict[str, Identity] = {}
        for worker, life in lives.items():
            identity = recorded_identity(life, records.get(worker))
            identity = main_process(marked.get(life.run, ())) if identity is None else identity
            if identity is None:
                self._tell(LaunchFailed(worker, life.run, "the daemon ended before it was started"))
            elif self._adopt_life(worker, life, identity):
                found[worker] = identity
        return found

    def strays(self) -> Mapping[str, tuple[Member, ...]]:
        """Find the runs of this instance that nobody remembers, after `adopt`. Raises OSError."""
        return find_strays(self._forest, self._runs.all(), self._places.instance, self._lives)

    def kill_strays(self) -> int:
        """Send SIGKILL to all processes of all strays; return how many. Raises OSError."""
        count = sum(kill_tree(partial(self._stray_members, run)) for run in self.strays())
        for worker, record in self._runs.all().items():
            if record.run not in self._lives and record.run not in self.strays():
                self._runs.remove(worker, record.run)
        return count

    async def end_strays(self, known: Collection[str]) -> int:
        """Kill all strays, wanted or not, and give them the time to go before anything is started."""
        del known
        count = self.kill_strays()
        if count:
            await self._until_strays_are_gone()
        return count

    async def _until_strays_are_gone(self) -> None:
        give_up_s = time.monotonic() + STRAYS_GONE_S
        while strays := self.strays():
            if time.monotonic() > give_up_s:
                self._warn(f"processes of {', '.join(sorted(strays))} outlive SIGKILL")
                return
            await asyncio.sleep(0.05)

    async def is_restarting(self) -> bool:
        """Return False: what is started as a process of its own ends with the supervisor."""
        return False

    def tidy(self, plan: Plan) -> None:
        """Tell again who could not be told, and shorten the files of what workers print, in a thread."""
        del plan
        self._notify.say_again()
        if self._trimming is None or self._trimming.done():
            self._trimming = asyncio.get_running_loop().create_task(self._trim())

    async def _trim(self) -> None:
        with contextlib.suppress(RuntimeError):  # no thread can be started: the machine is out of pids
            faults = await asyncio.to_thread(self.output.trim)
            for fault in faults:
                if fault not in self._untrimmed:  # once, and not at every try
                    self._warn(fault)
            self._untrimmed = faults

    def reap(self, protected: Collection[int]) -> None:
        """Reap ended orphans of workers. `protected` are children that others wait for."""
        self.reap_orphans(protected)

    def reap_orphans(self, protected: Collection[int] = ()) -> int:
        """Reap as `reap` does; return how many were reaped."""
        return reap_orphans({*protected, *self.children()})

    def children(self) -> frozenset[int]:
        """Return the pids of main processes whose end has not been told yet."""
        return frozenset(
            life.identity.pid
            for run, life in self._lives.items()
            if life.identity is not None and self._exits.watching(run)
        )

    def close(self) -> None:
        """Let go of everything; workers run on, and their records and sockets stay for the next daemon."""
        for task in self._telling:
            task.cancel()
        self._exits.close()
        self._notify.close()
        self._sole.close()

    def _refuse_a_second(self, order: Launch) -> None:
        """Refuse to launch beside a living process of the worker, whatever was remembered of it."""
        for run, life in self._lives.items():
            if life.worker == order.worker and (self._exits.watching(run) or self._members_now(run)):
                raise CannotLaunchError(
                    f"cannot launch {order.worker}: its run {run} is alive", hopeless=False
                )
        record = self._runs.read(order.worker)
        if record is None or record.run in self._lives:
            return
        pidfd = None if record.identity is None else hold(record.identity)
        if pidfd is not None:
            os.close(pidfd)
        if pidfd is not None or self._forest.marked().get(record.run):
            raise CannotLaunchError(
                f"cannot launch {order.worker}: its run {record.run}, of an earlier daemon, is alive",
                hopeless=False,
            )

    def _launch(self, order: Launch) -> None:
        credentials = credentials_of(order)
        with contextlib.ExitStack() as after, contextlib.ExitStack() as undo:
            notify = self._bind(order, credentials.uid)
            undo.callback(self._notify.drop, order.worker)
            output = self.output.open(order.worker)
            after.callback(os.close, output)
            program = worker_program(order, credentials, output, notify)
            begun = Run(order.worker, order.run, output_at=self.output.begin(order.worker))
            self._runs.write(begun)
            try:
                child = spawn(program, self._file_limits)
            except CannotLaunchError:  # whatever else is raised, the child may run: its record stays
                self._runs.remove(order.worker, order.run)
                raise
            self._launched(begun, child)
            undo.pop_all()

    def _launched(self, begun: Run, child: Child) -> None:
        """Hold on to a child, or end it where that fails."""
        try:
            identity = identify(child.pid)
        except OSError:
            signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
            os.close(child.pidfd)  # reaped as an orphan
            raise
        life = replace(begun, identity=identity)
        self._follow(life, child.pidfd)
        with contextlib.suppress(OSError):  # a full disk: the marker will do
            self._runs.write(life)
        self._tell(Launched(begun.worker, begun.run, identity))

    def _follow(self, life: Run, pidfd: int | None) -> None:
        self._lives[life.run] = life
        if life.identity is not None and life.identity.boot_id == self._boot_id:
            self._forest.track(Root(life.worker, life.run, life.identity))
        if pidfd is not None:
            self._exits.watch(life.run, pidfd)

    def _adopt_life(self, worker: str, life: Life, identity: Identity) -> bool:
        """Follow an earlier life; return whether its main process is alive, else tell its end."""
        record = self._runs.read(worker)
        at = record.output_at if record is not None and record.run == life.run else None
        if at is not None:
            self.output.begin(worker, at)
        run = Run(worker, life.run, identity, at)
        pidfd = hold(identity)
        self._follow(run, pidfd)
        if pidfd is None:
            self._tell(Exited(worker, life.run))
            return False
        with contextlib.suppress(OSError, CannotLaunchError):  # watched without its reports, rather than not
            self._runs.write(run)
            order = Launch(worker, life.run, life.plan, life.settings, life.gpus, "adopted")
            self._notify.bind(worker, life.run, credentials_of(order).uid)
        return True

    def _bind(self, order: Launch, uid: int | None) -> Path | None:
        """Bind the worker's socket; without one it is launched only where nothing is awaited from it."""
        try:
            return self._notify.bind(order.worker, order.run, uid)
        except OSError as error:
            if order.plan.heartbeat_s is None and not isinstance(order.plan.ready, NotifyTarget):
                return None
            raise because(f"make the NOTIFY_SOCKET of {order.worker}", error) from None

    def _may_speak(self, run: str, pid: int) -> bool:
        return in_tree(self._forest.run_of, run, pid, Path("/proc"))

    def _members_now(self, run: str) -> tuple[Member, ...]:
        self._forest.refresh(full=True)
        return self._forest.members(run)

    def _stray_members(self, run: str) -> tuple[Member, ...]:
        return self.strays().get(run, ())

    def _ended(self, run: str, ending: Ending) -> None:
        worker = self._lives[run].worker
        self._notify.hear_out(worker, run)
        news = Exited(worker, run, ending.code, ending.signal)
        if run not in self._asked and may_tell(news):
            self._go(self._tell_why(news))
        elif run not in self._asked and news.signal == signal.SIGKILL and self._oom_killed():
            self._go(self._tell_later(news))
        else:
            self._tell(news)

    def _go(self, work: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(work)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def _oom_killed(self) -> bool:
        """Say whether the kernel has killed anybody for want of memory since this was last asked."""
        before, self._oom_kills = self._oom_kills, oom_kills()
        return self._oom_kills != before

    async def _tell_later(self, news: Exited) -> None:
        """Tell an end once the kernel has had the time to write into its log that it was the one."""
        await asyncio.sleep(KERNEL_SAYS_S)
        self._tell(news)

    async def _tell_why(self, news: Exited) -> None:
        verdict = await verdict_of(partial(self.output.last_words, news.worker))
        self._tell(replace(news, verdict=verdict))
