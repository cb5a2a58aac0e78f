"""The one place where the parts of the daemon are made and joined."""

import asyncio
import gc
import os
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from supervisor import __version__
from supervisor.act.alert_text import Origin
from supervisor.act.direct import DirectLauncher, LaunchPlaces
from supervisor.act.executor import Askers, Executor
from supervisor.act.herald import Herald
from supervisor.act.launcher import Launcher
from supervisor.act.prober import Prober
from supervisor.act.reckoner import Reckoner
from supervisor.config import Loaded, load, this_machine
from supervisor.daemon import logs
from supervisor.daemon.choice import CannotChooseError, Kind, caution, choose, look_around
from supervisor.daemon.control import Control
from supervisor.daemon.control_socket import ControlSocketError, Listening, listen
from supervisor.daemon.desk import Desk, DeskParts
from supervisor.daemon.fd_store import FdStore
from supervisor.daemon.history import History
from supervisor.daemon.instance import Instance
from supervisor.daemon.keeper import Keeper
from supervisor.daemon.kernel import Around, KernelListener
from supervisor.daemon.loop import Loop, Parts
from supervisor.daemon.mailbox import Mailbox
from supervisor.daemon.meter import Meter
from supervisor.daemon.observe import Observer, Sensors
from supervisor.daemon.options import RunOptions
from supervisor.daemon.places import NAME, Places, find_places, make_places
from supervisor.daemon.publish import DURABLE, DURABLE_ALERTS, DaemonPublisher, Outlets
from supervisor.daemon.recent import Recent
from supervisor.daemon.recording import Recorder
from supervisor.daemon.service import Service
from supervisor.daemon.status import StatusContext
from supervisor.daemon.web_child import WebChild
from supervisor.decide.alerts import statuses
from supervisor.decide.resume import after_reboot, resume
from supervisor.model.action import Notice
from supervisor.model.alert import AlertStatus
from supervisor.model.memory import AlertsMemory, Memory, WorkerMemory
from supervisor.model.news import Launched, Shutdown
from supervisor.model.plan import Plan
from supervisor.model.reading import Missing
from supervisor.sense.forest import Forest
from supervisor.sense.gpu.sensor import GpuSensor
from supervisor.sense.host import HostSensor, PressureTrigger, open_trigger
from supervisor.sense.kernel_log import open_kernel_log
from supervisor.sense.pid_namespace import why_not_ours
from supervisor.sense.procfs import boot_id

PROC: Final = Path("/proc")
# Beyond the longest stop_timeout: until it is said that SIGKILL ends nothing, and to write the history.
AFTER_STOP_S: Final = 75.0
SLICE_PRESSURE: Final = Path("/sys/fs/cgroup/gpu.slice/gpu-workers.slice/memory.pressure")
CONFIG_IS_WRONG: Final = 78  # EX_CONFIG, and RestartPreventExitStatus= of the unit


class Setting(Struct, frozen=True):
    """What is known before anything is made."""

    options: RunOptions
    places: Places
    plan: Plan
    launcher: Kind
    listening: Listening | None  # None in a dry run
    started_s: float


def run(options: RunOptions) -> int:
    """Run the daemon until it is told to end; return its exit code."""
    uid = os.getuid()
    places = find_places(os.environ, uid)
    if options.config is not None:
        places = replace(places, config=options.config.absolute())
    if options.dry_run:  # it may run beside the real one: it touches nothing of it, not even to read
        with tempfile.TemporaryDirectory(prefix=f"{NAME}-dry-run-") as folder:
            return _run(options, _places_in(places, Path(folder)), uid)
    return _run(options, places, uid)


def _places_in(places: Places, folder: Path) -> Places:
    return replace(
        places, runtime_dir=folder / "run", state_dir=folder / "state", log_dir=folder / "state" / "logs"
    )


def _run(options: RunOptions, places: Places, uid: int) -> int:
    loaded = load(places.config, machine=this_machine())
    if loaded.plan is None:
        return _refuse_config(loaded)
    around = look_around(os.environ, uid, os.getppid())
    try:
        kind = choose(options.launcher or loaded.plan.launcher, around)
    except CannotChooseError as error:
        return _fail(str(error))
    try:
        odd = make_places(places, uid)
        listening = None if options.dry_run else listen(places.control)
    except (OSError, ControlSocketError) as error:
        return _fail(str(error))
    setting = Setting(options, places, loaded.plan, kind, listening, time.monotonic())
    if (beside := caution(kind, around)) is not None:
        odd = (beside, *odd)
    try:
        return asyncio.run(_serve(setting, loaded, odd))
    except OSError as error:
        return _fail(str(error))
    finally:
        if listening is not None:
            listening.close()


def _refuse_config(loaded: Loaded) -> int:
    for fault in loaded.faults:
        sys.stderr.write(f"gpu-supervisor: {fault}\n")
    return CONFIG_IS_WRONG


def _fail(why: str) -> int:
    sys.stderr.write(f"gpu-supervisor: cannot run: {why}\n")
    return 1


async def _serve(setting: Setting, loaded: Loaded, cautions: tuple[str, ...]) -> int:
    kind, colour = logs.choose_kind(sys.stderr, os.environ), logs.wants_colour(sys.stderr, os.environ)
    log = logs.configure(sys.stderr, kind, colour=colour)
    daemon = Daemon(setting, log)
    for warning in (*loaded.warnings, *cautions):
        daemon.notice(Notice("warning", "configuration", str(warning)))
    for line in loaded.later:
        daemon.notice(Notice("warning", "not in this version", line))
    try:
        await daemon.serve()
    finally:
        await daemon.close()
        await asyncio.to_thread(log.close)
    return 0


class Daemon:
    """All parts, joined."""

    def __init__(self, setting: Setting, log: logs.NoticeLog) -> None:
        """Make every part; nothing is started and no worker is touched."""
        self._setting = setting
        places = setting.places
        self._log = log
        self._loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        # First of all: no other daemon changes any more what is read from here on.
        self._instance = Instance(places.state_dir, self._warn)
        self._history = History(places.state_dir / "history.db", self._warn)
        self._history.start()
        self._keeper = Keeper(places.runtime_dir / "memory", boot_id(PROC), self._warn)
        memory = self._remember()
        self._instance.keep(memory.instance)
        self._mailbox = Mailbox()
        self._meter = Meter(os.getpid(), time.time())
        self._recent = Recent(f"{memory.instance}-{os.getpid()}-{time.time_ns()}")
        self._service = Service(os.environ)
        self._store = FdStore(os.environ, os.getpid())
        self._host = HostSensor(PROC)
        self._gpu = GpuSensor(tell=self._mailbox.nudge)
        self._launcher = self._make_launcher(memory.instance)
        self._publisher = DaemonPublisher(self._outlets())
        prober = Prober(self._launcher.commands, self._mailbox.tell, self._loop)
        self._herald = self._make_herald()
        askers = Askers(prober, Reckoner(self._mailbox.tell, self._loop), self._herald)
        self._executor = Executor(
            self._launcher, askers, self.notice, self._mailbox.tell, dry_run=setting.options.dry_run
        )
        observer = Observer(Sensors(self._host, self._launcher.trees, self._gpu, self._launcher.stirred))
        self._observer = observer
        self._kernel = KernelListener(
            open_kernel_log(places.kernel_log),
            Around(self._owner_of, self._gpu.gpus, self._mailbox.nudge, self.notice),
            foreign_pids=why_not_ours(PROC, "the kernel"),
        )
        parts = Parts(
            observer,
            self._executor,
            self._keeper,
            self._mailbox,
            self._publisher,
            self._tidy,
            self._reap,
            self._kernel.take,
        )
        self.loop = Loop(setting.plan, memory, parts)
        self._control: Control | None = None
        self._web: WebChild | None = None
        self._triggers: list[PressureTrigger] = []
        self._beside: set[asyncio.Task[object]] = set()
        self._told_to_end = False

    def _make_launcher(self, instance: str) -> Launcher:
        places = self._setting.places
        if self._setting.launcher == "systemd" and not self._setting.options.dry_run:
            from supervisor.act.systemd_launcher import SystemdLauncher, SystemdPlaces  # noqa: PLC0415 - 4 MiB

            total = self._host.read(time.monotonic()).memory_total_bytes
            if isinstance(total, Missing):
                raise OSError(total.why)
            where = SystemdPlaces(places.runtime_dir, total)
            return SystemdLauncher(where, self._mailbox.tell, self._warn, self._mailbox.nudge, self._store)
        return DirectLauncher(
            LaunchPlaces(places.runtime_dir, places.log_dir, instance),
            Forest(PROC, reaper=os.getpid()),
            self._mailbox.tell,
            self._loop,
            self._warn,
        )

    def _make_herald(self) -> Herald:
        plan = self._setting.plan
        origin = Origin(os.uname().nodename, f"http://{plan.web.host}:{plan.web.port}/")
        return Herald(origin, () if self._setting.options.dry_run else plan.alerts.notify, self.notice)

    def notice(self, notice: Notice) -> None:
        """Tell people; callable before the publisher is there."""
        publisher = getattr(self, "_publisher", None)
        if isinstance(publisher, DaemonPublisher):
            publisher.notice(notice)
        else:
            self._log(notice)

    def _warn(self, text: str) -> None:
        """Warn from any thread."""
        self._loop.call_soon_threadsafe(self.notice, Notice("warning", "degraded", text))

    def _remember(self) -> Memory:
        """Return the memory of an earlier daemon, or a new one with what outlived the machine's restart."""
        kept = self._keeper.load()
        if kept is not None:
            fresh = kept.boot_id == boot_id(PROC)
            return resume(kept.memory, time.monotonic()) if fresh else after_reboot(kept.memory)
        workers: dict[str, WorkerMemory] = {}
        for name in self._setting.plan.workers:
            text = self._history.kept(DURABLE + name)
            if text is None:
                continue
            try:
                workers[name] = msgspec.json.decode(text, type=WorkerMemory)
            except (UnicodeDecodeError, msgspec.MsgspecError) as error:  # of another version, or damaged
                self._warn(f"cannot read what the history kept of {name}: {error}; it begins anew")
        return Memory(self._instance.name, workers, alerts=self._remember_alerts())

    def _remember_alerts(self) -> AlertsMemory:
        text = self._history.kept(DURABLE_ALERTS)
        if text is None:
            return AlertsMemory()
        try:
            return msgspec.json.decode(text, type=AlertsMemory)
        except (UnicodeDecodeError, msgspec.MsgspecError) as error:
            self._warn(f"cannot read what the history kept of alerts: {error}; those that fire are told anew")
            return AlertsMemory()

    def _outlets(self) -> Outlets:
        record = self._setting.options.record
        self._recorder = None if record is None else Recorder(record)
        if self._recorder is not None:
            self._recorder.start()
        return Outlets(
            self._log,
            self._history,
            self._recent,
            self._meter,
            self._service,
            self._recorder,
            self._launcher.output,
            self._context,
        )

    def _context(self, refused: str | None = None) -> StatusContext:
        return StatusContext(
            version=__version__,
            launcher=self._setting.launcher,
            started_s=self._setting.started_s,
            config=str(self._setting.places.config),
            config_refused=refused,
            dry_run=self._setting.options.dry_run,
            history=self._history.state,
            kernel_log_missing=self._kernel.missing,
            supervisor=self._meter.status(self._history.dropped),
        )

    async def serve(self) -> None:
        """Adopt what an earlier daemon left, open the doors, and go round until told to end."""
        desk = self._desk()
        self._listen_to_signals(desk)  # one that comes from here on is obeyed in the first turn
        await self._launcher.open(self.loop.plan)
        await self._adopt()
        await self._gpu.start()
        places = self._setting.places
        count = len(self.loop.plan.workers)
        text = f"version {__version__}, launcher {self._setting.launcher}, {count} workers of {places.config}"
        self.notice(Notice("info", "supervisor started", text, fields={"control": str(places.control)}))
        self._kernel.start(self._loop)
        if self._setting.listening is not None:
            self._control = Control(self._setting.listening, desk, self.notice)
            self._control.start()
            if self._setting.options.web:
                self._web = WebChild(places.control, self.notice)
                self._web.follow(self.loop.plan.web)
        self._watch_stalls(Path("/proc/pressure/memory"))
        if self._setting.launcher == "systemd":
            self._watch_stalls(SLICE_PRESSURE)
        gc.collect()
        gc.freeze()  # what was made until now lives as long as the daemon
        await self.loop.run()

    async def _adopt(self) -> None:
        if self._setting.options.dry_run:
            return
        self._keeper.begin(self.loop.memory)
        lives = {name: one.life for name, one in self.loop.memory.workers.items() if one.life is not None}
        found = await self._executor.adopt(lives)
        self._meter.adopted = len(found)
        for name, identity in found.items():
            life = lives[name]
            if life.identity is None:
                self._mailbox.tell(Launched(name, life.run, identity))
            text = f"pid {identity.pid} of an earlier supervisor is watched again"
            self.notice(Notice("info", "worker adopted", text, worker=name))
        self._store.drop_rest()  # sockets of lives that are over
        ended = await self._launcher.end_strays(self.loop.plan.workers)
        if ended:
            text = f"{ended} that belong to lives that nobody remembers were ended"
            self.notice(Notice("warning", "strays ended", text))

    def _desk(self) -> Desk:
        return Desk(
            DeskParts(
                self.loop,
                self._mailbox,
                self._history,
                self._recent,
                self._service,
                self.notice,
                self._context,
                self._setting.places.config,
                self._launcher.output,
            )
        )

    def _listen_to_signals(self, desk: Desk) -> None:
        for signum in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(signum, self._end)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload, desk)

    def _end(self) -> None:
        if self._told_to_end:
            self._mailbox.tell(Shutdown(hurry=True))
            return
        self._told_to_end = True
        self._service.stopping()
        self._beside_the_loop(self._find_out_how_to_end())

    async def _find_out_how_to_end(self) -> None:
        """End with the workers, or without them where they are to run on."""
        if not self.loop.plan.stop_workers:
            why = "workers run on, as stop_workers has it"
        elif await self._launcher.is_restarting():
            why = "workers run on, and the next one adopts them"
        else:
            lives = [one.life for one in self.loop.memory.workers.values() if one.life is not None]
            longest_s = max((life.plan.stop_timeout_s for life in lives), default=0.0)
            self._service.extend(longest_s + AFTER_STOP_S)
            self.notice(Notice("info", "supervisor ends", "it was told to; a second signal hurries"))
            self._mailbox.tell(Shutdown())
            return
        self.notice(Notice("info", "supervisor ends", f"it was told to; {why}"))
        self._mailbox.tell(Shutdown(leave=True))

    def _reload(self, desk: Desk) -> None:
        self._beside_the_loop(desk.reload("SIGHUP"))

    def _beside_the_loop(self, work: Coroutine[object, object, object]) -> None:
        task: asyncio.Task[object] = self._loop.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    def _owner_of(self, pid: int) -> tuple[str, str] | None:
        return self._observer.owner_of(pid, self.loop.memory)

    def _watch_stalls(self, path: Path) -> None:
        """Have the kernel wake the loop when memory stalls, where it grants that."""
        trigger = open_trigger(path)
        if not isinstance(trigger, Missing):
            self._triggers.append(trigger)
            self._loop.add_reader(trigger.fileno(), self._stalled, trigger)

    def _stalled(self, trigger: PressureTrigger) -> None:
        trigger.drain()
        self._mailbox.nudge()

    def _tidy(self, memory: Memory) -> None:
        """Do after each look what is cheap and never urgent."""
        self._observer.measure_exactly(memory, time.monotonic())
        if self._web is not None:
            self._web.follow(self.loop.plan.web)
        if self._setting.options.dry_run:
            return
        self._launcher.tidy(self.loop.plan)
        self._herald.tend(self.loop.plan.alerts.notify, self._firing)

    def _firing(self) -> tuple[AlertStatus, ...]:
        snapshot = self.loop.snapshot
        if snapshot is None:
            return ()
        found = statuses(self.loop.plan, self.loop.memory, snapshot)
        return tuple(one for one in found if one.state == "firing")

    def _reap(self) -> None:
        if not self._setting.options.dry_run:
            self._launcher.reap(self._executor.children())

    async def close(self) -> None:
        """Let go of everything, in the order in which it is used; workers that still run go on."""
        if self._web is not None:
            await self._web.close()
        if self._control is not None:
            await self._control.close()
        for trigger in self._triggers:
            self._loop.remove_reader(trigger.fileno())
            trigger.close()
        self._kernel.close()
        self._executor.close()
        await self._gpu.close()
        self._launcher.close()
        await asyncio.to_thread(self._history.close)
        if self._recorder is not None:
            await asyncio.to_thread(self._recorder.close)
        self._service.close()
        self._instance.close()
