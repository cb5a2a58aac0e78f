"""Launcher `systemd`: each worker is a service of PID 1, in a cgroup with the kernel's limits."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from supervisor.act.by_hand import RESTARTS
from supervisor.act.cgroup_kill import kill_cgroup
from supervisor.act.command import ours
from supervisor.act.environment_file import read_environment_file
from supervisor.act.hearing import Callbacks
from supervisor.act.inheritance import raise_file_limit
from supervisor.act.journal_output import JournalOutput
from supervisor.act.last_words import may_tell, verdict_of
from supervisor.act.launcher import Tell
from supervisor.act.loaded_units import LoadedUnits
from supervisor.act.notify_socket import NotifySockets, SocketStore
from supervisor.act.program import credentials_of
from supervisor.act.refusal import CannotLaunchError, because
from supervisor.act.senders import in_cgroup
from supervisor.act.unit_command import UnitCommands
from supervisor.act.unit_end import end_of, refusal_of
from supervisor.act.unit_files import UnitFiles
from supervisor.act.unit_lives import RUNNING, UnitLife, UnitLives, cgroup_of, main_process, usual_cgroup
from supervisor.model.action import Advise, Forget, Kill, Launch, Signal
from supervisor.model.memory import Life
from supervisor.model.news import Exited, Launched, LaunchFailed, News, Notified, Reported
from supervisor.model.plan import Plan
from supervisor.model.snapshot import Identity
from supervisor.systemd.bus import SystemdError, UnitState
from supervisor.systemd.units import SLICE, Unit, UnitPlaces, unit_name, worker_of, worker_unit

UNITS: Final = "gpu-worker-*.service"
GONE: Final = frozenset({"inactive", "failed"})
BAD_UNIT: Final = frozenset({"BadUnitSetting", "NoSuchUnit", "LoadFailed"})


class SystemdPlaces(Struct, frozen=True):
    """What the launcher is told of the machine."""

    runtime_dir: Path  # of this boot: notify sockets, and what each life is told
    memory_total_bytes: int


class SystemdLauncher:
    """Starts, signals, ends and finds again workers that are services of systemd; see `Launcher`.

    Systemd is asked and its signals are followed without waiting; the emergency kill asks nobody. Used
    in the thread of its event loop only.
    """

    kind = "systemd"

    def __init__(
        self,
        places: SystemdPlaces,
        tell: Tell,
        warn: Callable[[str], None],
        nudge: Callable[[], None],
        store: SocketStore | None = None,
    ) -> None:
        """Make ready; `open` connects. `warn` is told what goes wrong beside a worker.

        `nudge` asks for a turn of the loop, which is the running one. What workers say while there is no
        daemon waits in `store`. Raises OSError.
        """
        self.output = JournalOutput()
        raise_file_limit()  # six descriptors a worker are kept
        loop = asyncio.get_running_loop()
        self._lives = UnitLives(self._happened, warn, nudge, loop, self.output.last_words)
        self.trees = self._lives.trees
        self._memory_total_bytes = places.memory_total_bytes
        self._unit_places = UnitPlaces(environment_dir=str(places.runtime_dir / "units"))
        self.commands = UnitCommands(self._lives.link, self._lives.jobs, self._unit_places)
        self._files = UnitFiles(places.runtime_dir / "units")
        self._units = LoadedUnits(self._files, self._unit_places, self._lives.link)
        callbacks = Callbacks(self._notified, warn, self._may_speak)
        self._notify = NotifySockets(places.runtime_dir / "notify", callbacks, loop, store)
        self._plan: Plan | None = None
        self._untidy = False
        self._tell = tell
        self._warn = warn

    async def open(self, plan: Plan) -> None:
        """Connect, and have the slice of all workers there. Raises OSError in words."""
        self._plan, self._untidy = plan, True
        try:
            await self._lives.link.open()
            # Nothing goes before it is known what of it runs.
            await self._units.load_all(plan, self._memory_total_bytes, self._files.workers())
            await self._lives.link.systemd.start(SLICE)
        except SystemdError as error:
            raise OSError(str(error)) from error

    def stirred(self) -> frozenset[str]:
        """Return the workers that have met a limit of their cgroup since this was last asked."""
        return self._lives.stirred()

    def launch(self, order: Launch) -> None:
        """Start one life, unless an earlier one of this worker is not over."""
        unit = unit_name(order.worker)
        former = self._lives.newest(unit)
        if former is not None and not former.over:
            why = f"cannot launch {order.worker}: its run {former.order.run} is alive"
            self._tell(LaunchFailed(order.worker, order.run, why))
            return
        life = UnitLife(order, unit)
        self._lives.begin(life)
        self._lives.go(self._start(life))

    def signal(self, order: Signal) -> None:
        """Stop the unit by its first stop signal; send every other one to the main process."""
        life = self._lives.of(order.run)
        if life is None or life.over:
            return
        stop = order.signum == life.order.plan.stop_signal and not life.stopping
        life.signalled, life.stopping = True, life.stopping or stop
        if stop and life.stopped_by_hand:  # it has its signal, and a stop of ours would cancel a restart
            return
        self._lives.go(self._signal(life, order.signum, stop=stop))

    def kill(self, order: Kill) -> None:
        """Send SIGKILL to the whole cgroup, by one write that waits for nobody. Raises OSError."""
        life = self._lives.of(order.run)
        if life is None:
            return
        life.signalled = life.stopping = True
        try:
            if life.cgroup is not None and kill_cgroup(life.cgroup):
                return
        except FileNotFoundError:  # a kernel older than 5.14
            pass
        if not life.over:
            self._lives.go(self._kill_by_systemd(life))

    def forget(self, order: Forget) -> None:
        """Let go of a life."""
        life = self._lives.forget(order.run)
        self._untidy = True
        if life is not None and self._lives.newest(life.unit) is None:
            self._notify.drop(order.worker)

    def advise(self, order: Advise) -> None:
        """Tell a life's guards how things stand."""
        self._notify.say(order.worker, order.run, order.words)

    async def adopt(self, lives: Mapping[str, Life]) -> Mapping[str, Identity]:
        """Find the lives of an earlier daemon by their units. Raises OSError in words."""
        try:
            found = await asyncio.gather(*(self._find(worker, life) for worker, life in lives.items()))
        except SystemdError as error:
            raise OSError(str(error)) from error
        return {worker: one for worker, one in zip(lives, found, strict=True) if one is not None}

    async def end_strays(self, known: Collection[str]) -> int:
        """Stop the units of ours that run for a worker that nobody wants; return how many.

        One that is wanted, and that nobody remembers, is taken over when it is launched.
        """
        systemd, count = self._lives.link.systemd, 0
        try:
            await self.commands.end_strays()
            for unit, active in (await systemd.units(UNITS)).items():
                worker = worker_of(unit)
                if active not in RUNNING or self._lives.newest(unit) is not None:
                    continue
                if worker in known:
                    self._lives.changed(unit, await systemd.state(unit))
                elif worker in self._files.workers():
                    await self._lives.jobs.order(unit, systemd.stop(unit))
                    count += 1
        except SystemdError as error:
            raise OSError(str(error)) from error
        return count

    async def is_restarting(self) -> bool:
        """Tell whether systemd is to start the daemon again; where that is unknown, yes: it kills nobody."""
        own = cgroup_of(os.getpid())
        try:
            return own is None or await self._lives.link.systemd.job_of(own.name) in RESTARTS
        except SystemdError as error:
            self._warn(f"cannot tell a stop from a restart, so the workers run on: {error}")
            return True

    def tidy(self, plan: Plan) -> None:
        """Tell again who could not be told, and bring the unit files in line with a changed plan."""
        self._notify.say_again()
        if plan is not self._plan or self._untidy:
            self._plan, self._untidy = plan, False  # by now, units are free to go
            self._lives.go(self._in_line(plan))

    def reap(self, protected: Collection[int]) -> None:
        """Do nothing: workers are children of PID 1."""
        del protected

    def close(self) -> None:
        """Let go of everything; workers run on, and their sockets stay for the next daemon."""
        self._lives.close()
        self._notify.close()

    def _may_speak(self, run: str, pid: int) -> bool:
        """Say whether a process is in the unit's cgroup, or was its main one: that has last words too."""
        life = self._lives.of(run)
        if life is not None and pid == life.main_pid:
            return True
        return life is not None and in_cgroup(life.cgroup or usual_cgroup(life.unit), cgroup_of(pid))

    def _happened(self, news: News) -> None:
        """Tell what happens to a unit; its end after all that the worker has said."""
        if isinstance(news, Exited):
            self._notify.hear_out(news.worker, news.run)
        self._tell(news)

    def _notified(self, news: Notified | Reported) -> None:
        """Tell what a worker says, but not before it is told that it was launched."""
        life = self._lives.of(news.run)
        if life is None or life.running or life.over:
            self._tell(news)
        else:
            life.early = (*life.early, news)

    async def _start(self, life: UnitLife) -> None:
        worker = life.order.worker
        await self._lives.link.wait()  # without the bus a start is late, which is no failure of the worker's
        if life.over:
            return
        try:
            self._started(life, await self._begin(life))
        except CannotLaunchError as refusal:
            self._refuse(life, refusal)
        except SystemdError as error:
            why = f"cannot launch {worker}: {error}"
            self._refuse(life, CannotLaunchError(why, hopeless=error.name in BAD_UNIT))
        except OSError as error:
            self._refuse(life, because(f"launch {worker}", error))

    def _refuse(self, life: UnitLife, refusal: CannotLaunchError) -> None:
        if life.over:
            return
        life.over = True
        self._tell(LaunchFailed(life.order.worker, life.order.run, refusal.why, refusal.hopeless))

    async def _begin(self, life: UnitLife) -> UnitState:
        """Have the unit started, or take it over where somebody has started it by hand."""
        order, systemd = life.order, self._lives.link.systemd
        unit = self._unit(order)
        state = await systemd.state(life.unit)
        if state.active in RUNNING and state.main_pid:
            if not self._files.has(unit):
                raise CannotLaunchError(
                    f"cannot launch {order.worker}: {life.unit} runs already, and not as it is configured;"
                    f" `systemctl stop {life.unit}` ends it",
                    hopeless=False,
                )
            self._bind(order)
            await self._lives.hold(life.unit)
            return state
        self._files.write_environment(order.worker, ours(order, str(self._bind(order))))
        await self._units.load(unit)
        await self._lives.hold(life.unit)
        if life.stopping:  # a stop of what does not run yet would be lost on systemd
            raise CannotLaunchError(f"{order.worker} was stopped before it was started", hopeless=False)
        result = await self._lives.jobs.carry_out(life.unit, systemd.start(life.unit))
        state = await systemd.state(life.unit)
        if result == "done" or state.main_pid:
            return state
        raise refusal_of(life.unit, order.plan.command[0], state, result)

    def _unit(self, order: Launch) -> Unit:
        """Return the unit of a life; what systemd would refuse in fewer words is refused before it."""
        credentials_of(order)
        if order.plan.environment_file is not None:
            read_environment_file(Path(order.plan.environment_file))
        try:
            return worker_unit(order.plan, order.settings, self._unit_places)
        except ValueError as error:
            raise CannotLaunchError(f"cannot launch {order.worker}: {error}", hopeless=True) from None

    def _bind(self, order: Launch) -> Path:
        return self._notify.bind(order.worker, order.run, credentials_of(order).uid)

    def _started(self, life: UnitLife, state: UnitState) -> None:
        identity = self._lives.follow(life, state)
        if identity is None:
            self._lives.end(life, state)
        else:
            self._tell(Launched(life.order.worker, life.order.run, identity))
            for news in life.early:
                self._tell(news)

    async def _find(self, worker: str, life: Life) -> Identity | None:
        """Follow a life of an earlier daemon and return its main process, or tell how it ended."""
        gpus = None if life.plan.gpus.kind == "any" else life.gpus
        order = Launch(worker, life.run, life.plan, life.settings, gpus, "adopted")
        found = UnitLife(order, unit_name(worker))
        self._lives.begin(found)
        state = await self._lives.link.systemd.state(found.unit)
        newest = self._files.run_of(worker) == life.run  # nothing was started for the worker since
        process = main_process(state)
        is_ours = process == life.identity if life.identity is not None else newest
        if process is not None and is_ours and self._lives.follow(found, state) is not None:
            await self._lives.hold(found.unit)
            # Without its reports it is watched all the same.
            with contextlib.suppress(OSError, CannotLaunchError):
                self._bind(order)
            return process
        found.over = True
        await self._tell_former(found, life, state if newest and process is None else UnitState())
        # What somebody else has started in its place is not to be taken for what it left behind.
        self._lives.changed(found.unit, state)
        return None

    async def _tell_former(self, found: UnitLife, life: Life, state: UnitState) -> None:
        worker, run = found.order.worker, life.run
        if life.identity is None and not state.code:
            self._tell(LaunchFailed(worker, run, "the daemon ended before it was started"))
        elif state.code:
            news = end_of(worker, run, state, {}, signalled=True)
            if may_tell(news):
                read = partial(self.output.last_words, worker, state.invocation)
                news = replace(news, verdict=await verdict_of(read))
            self._tell(news)
        else:
            self._tell(Exited(worker, run))
        found.cgroup = usual_cgroup(found.unit)
        self.trees.track(run, found.cgroup, None)

    async def _signal(self, life: UnitLife, signum: int, *, stop: bool) -> None:
        try:
            systemd = self._lives.link.systemd
            if stop:
                await self._lives.jobs.order(life.unit, systemd.stop(life.unit))
            else:
                await systemd.kill(life.unit, "main", signum)
        except SystemdError as error:
            if life.over or self._gives_up(life):
                return
            self._warn(f"cannot have systemd signal {life.unit}, so it is signalled directly: {error}")
            with contextlib.suppress(OSError):
                self._lives.signal(life.order.run, signum)

    async def _kill_by_systemd(self, life: UnitLife) -> None:
        try:
            await self._lives.link.systemd.kill(life.unit, "all", signal.SIGKILL)
        except SystemdError as error:
            if life.over or self._gives_up(life):
                return
            self._warn(f"cannot kill {life.unit}: {error}")
            with contextlib.suppress(OSError):
                self._lives.signal(life.order.run, signal.SIGKILL)

    def _gives_up(self, life: UnitLife) -> bool:
        """Give up a start that waits for the bus, and is to be stopped; return whether it was one."""
        waits = not life.running and not self._lives.link.up
        if waits:
            why = f"cannot launch {life.order.worker}: it was stopped while systemd could not be asked"
            self._refuse(life, CannotLaunchError(why, hopeless=False))
        return waits

    async def _in_line(self, plan: Plan) -> None:
        try:
            units = await self._lives.link.systemd.units(UNITS)
            running = {worker_of(unit) for unit, active in units.items() if active not in GONE}
            busy = {
                name
                for name in self._files.workers()
                if name in running or self._lives.newest(unit_name(name)) is not None
            }
            removed = await self._units.load_all(plan, self._memory_total_bytes, busy)
            for name in removed:
                await self._lives.let_go(unit_name(name))
            self._untidy = self._untidy or not busy <= plan.workers.keys()
        except (SystemdError, OSError) as error:
            self._warn(f"cannot bring the unit files in line with the configuration: {error}")
