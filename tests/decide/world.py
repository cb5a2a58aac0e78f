"""A world for `decide`: workers, GPUs and a host as plain values, moved by hand, with time as a number.

`World` carries out what is decided on trees that exist only here, and tells the outcomes as news, as a
launcher would. Nothing is patched and nothing waits. It holds the promises that need no rule of a test:
see `promises`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from decide.promises import Promises
from supervisor.decide.resume import resume
from supervisor.decide.turn import decide
from supervisor.model.action import Action, Forget, Kill, Launch, Notice, Probe, Reckon, Signal
from supervisor.model.fit import Fit
from supervisor.model.memory import Decision, Life, Memory, WorkerMemory
from supervisor.model.news import (
    Asked,
    Exited,
    Launched,
    LaunchFailed,
    News,
    Notified,
    Probed,
    Reckoned,
    Reported,
    Wish,
)
from supervisor.model.phase import GpuState, Phase
from supervisor.model.plan import Plan, WorkerPlan
from supervisor.model.reading import Missing
from supervisor.model.report import Report
from supervisor.model.rungs import Rungs
from supervisor.model.snapshot import GpuProcess, GpuSample, HostSample, Identity, Sighting, Snapshot
from supervisor.model.verdict import Verdict

GIB = 1 << 30
MIB = 1 << 20
GPU_A = "GPU-aaaa"
GPU_B = "GPU-bbbb"


def worker(name: str = "chat", **fields: Any) -> WorkerPlan:  # noqa: ANN401 - any field of a plan
    """Return a plan of one worker with nothing asked of it but what is given."""
    written: dict[str, Any] = {"name": name, "base": name, "command": ("serve",)}
    return WorkerPlan(**(written | fields))


def replicas(base: str, count: int, **fields: Any) -> list[WorkerPlan]:  # noqa: ANN401 - any field of a plan
    """Return the plans of `count` replicas."""
    return [worker(f"{base}-{at}", base=base, replica=at, **fields) for at in range(1, count + 1)]


def plan_of(*workers: WorkerPlan, **fields: Any) -> Plan:  # noqa: ANN401 - any field of a plan
    """Return a plan with these workers."""
    return Plan(workers={one.name: one for one in workers}, **fields)


@dataclass
class Tree:
    """The processes of one run."""

    worker: str
    run: str
    pid: int
    main: bool = True  # the main process lives
    others: list[int] = field(default_factory=list[int])  # further processes that live
    memory_bytes: int | Missing = 100 * MIB
    growth_bytes_s: float = 0.0
    vram: dict[str, int] = field(default_factory=dict[str, int])
    cpu_s: float | Missing = 0.0
    obeys: bool = True  # ends at its stop signal
    killable: bool = True
    seen: bool = True  # a sensor can look at it

    @property
    def pids(self) -> tuple[int, ...]:
        """Return what lives of it."""
        return (*((self.pid,) if self.main else ()), *self.others)


@dataclass
class Gpu:
    """One GPU."""

    uuid: str
    index: int
    total_bytes: int = 24 * GIB
    nobody_bytes: int = 300 * MIB  # used, and held by no process
    state: GpuState = GpuState.OK
    there: bool = True
    readable: bool = True  # how much is used can be read
    unified: bool = False  # its memory is the machine's
    listed: bool = True  # its processes can be listed
    celsius: float = 40.0
    utilization: float | Missing = 0.0  # percent
    watts: float = 70.0
    frozen_s: float | None = None  # not read since then


class World:
    """One machine and one daemon, stepped by hand."""

    def __init__(self, *workers: WorkerPlan, gpus: Sequence[str] = (), **fields: Any) -> None:  # noqa: ANN401
        """Begin with these workers, none of them started, at 1000 s of monotonic time."""
        self.plan = plan_of(*workers, **fields)
        self.memory = Memory("i")
        self.now_s = 1000.0
        self.wall_s = 1_800_000_000.0
        self.available: int | Missing = 40 * GIB
        self.host: dict[str, Any] = {}
        self.gpus = {uuid: Gpu(uuid, at) for at, uuid in enumerate(gpus)}
        self.gpu_missing: str | None = None
        self.trees: dict[str, Tree] = {}
        self.inbox: list[News] = []
        self.probes: list[Probe] = []
        self.answer: bool | None = None  # how each probe is answered at once; None: by hand
        self.launch_fails: str | None = None
        self.hopeless = False
        self.fits: tuple[Fit, ...] | None = ()  # how each reckoning is answered; None: not at all
        self.offers: Callable[[Reckon], Rungs] = lambda _: Rungs()  # and with which rungs
        self.newborn: dict[str, Any] = {}  # fields of the trees that are launched
        self.actions: list[Action] = []  # of the last call
        self.log: list[Action] = []  # of all time
        self.wake_s: float | None = None
        self.done = False
        self.look_s = 0.0
        self.crash_before_acting = False
        self.pids = 100
        self.sightings: dict[str, Sighting] = {}
        self.promises = Promises()

    # -- what is seen

    def life(self, name: str = "chat") -> Life:
        """Return the life of a worker, which it must have."""
        life = self.memory.workers[name].life
        assert life is not None, f"{name} has no life"
        return life

    def of(self, name: str = "chat") -> WorkerMemory:
        """Return what is remembered of a worker."""
        return self.memory.workers[name]

    def phase(self, name: str = "chat") -> Phase:
        """Return the phase of a worker."""
        return self.memory.workers[name].phase

    def tree(self, name: str = "chat") -> Tree:
        """Return the processes of a worker's life."""
        return self.trees[self.life(name).run]

    def did(self, kind: type[Action], name: str | None = None) -> list[Any]:
        """Return the last call's actions of one kind."""
        return [one for one in self.actions if isinstance(one, kind) and name in {None, one.worker}]

    def told(self, event: str) -> list[Notice]:
        """Return the last call's notices of one event."""
        return [one for one in self.actions if isinstance(one, Notice) and one.event == event]

    # -- time

    def turn(self, *news: News, look: bool = True) -> Decision:
        """Take one turn now, and carry out what was decided; its actions are those of this call."""
        self.actions = []
        return self._turn(news, look=look)

    def settle(self, *news: News) -> None:
        """Take turns, without time passing, until nothing more is heard."""
        self.actions = []
        self._turn(news, look=True)
        for _ in range(50):
            if not self.inbox:
                return
            self._turn((), look=True)
        raise AssertionError("the news never end")

    def pass_s(self, span_s: float, *news: News) -> None:
        """Let time pass: a turn at each look, at each wake and at each piece of news."""
        self.actions = []
        until_s = self.now_s + span_s
        self._turn(news, look=False)
        while not self.done:
            due = [self.look_s] if self.wake_s is None else [self.look_s, self.wake_s]
            at_s = self.now_s if self.inbox else max(min(due), self.now_s)
            if at_s > until_s:
                break
            self._advance(at_s - self.now_s)
            self._turn((), look=self.now_s >= self.look_s)
        self._advance(max(until_s - self.now_s, 0.0))

    def _advance(self, span_s: float) -> None:
        self.now_s += span_s
        self.wall_s += span_s
        for tree in self.trees.values():
            if tree.main and not isinstance(tree.memory_bytes, Missing):
                tree.memory_bytes += int(tree.growth_bytes_s * span_s)

    def _turn(self, news: Sequence[News], *, look: bool) -> Decision:
        heard = (*self.inbox, *news)
        self.inbox = []
        if look:
            self.look_s = self.now_s + self.plan.poll_interval_s
        snapshot = self.snapshot(heard, look=look)
        before = self.memory
        decision = decide(self.plan, before, snapshot, heard)
        self.promises.check(self.plan, before, snapshot, heard, decision)
        self.memory, self.wake_s, self.done = decision.memory, decision.wake_s, decision.done
        self.actions.extend(decision.actions)
        self.log.extend(decision.actions)
        if self.crash_before_acting and any(not isinstance(one, Notice) for one in decision.actions):
            self.crash_before_acting = False
            self.crash()
            return decision
        for action in decision.actions:
            self._carry_out(action)
        self._check_trees()
        return decision

    # -- what is read

    def snapshot(self, heard: Sequence[News] = (), *, look: bool = True) -> Snapshot:
        """Read the world, as the daemon does: everything at a look, else what leaves or is due."""
        gone = {one.worker for one in heard if isinstance(one, Exited)}
        for name, one in self.memory.workers.items():
            life = one.life
            if life is None or life.run not in self.trees or not self.trees[life.run].seen:
                continue
            leaves = name in gone or one.phase in {Phase.KILLING, Phase.RECLAIMING}
            due = life.sample_s is not None and life.sample_s <= self.now_s
            if look or leaves or due or name not in self.sightings:
                self.sightings[name] = self._sight(self.trees[life.run])
        samples = tuple(self._sample(one) for one in self.gpus.values() if one.there)
        host = HostSample(
            self.now_s,
            memory_total_bytes=64 * GIB,
            memory_available_bytes=self.available,
            **self.host,
        )
        return Snapshot(self.now_s, self.wall_s, host, samples, self.gpu_missing, dict(self.sightings))

    def _sight(self, tree: Tree) -> Sighting:
        pids = tree.pids
        empty = 0 if not pids else tree.memory_bytes
        return Sighting(
            tree.run,
            self.now_s,
            pids=pids,
            memory_bytes=empty,
            vram_read_s=self.now_s,
            vram_bytes=sum(tree.vram.values())
            if all(one.listed for one in self.gpus.values())
            else Missing("x"),
            vram_by_gpu=dict(tree.vram),
            cpu_s=tree.cpu_s,
        )

    def _sample(self, gpu: Gpu) -> GpuSample:
        ok = gpu.state is GpuState.OK
        holders = [(tree, tree.vram.get(gpu.uuid, 0)) for tree in self.trees.values()]
        used = gpu.nobody_bytes + sum(size for _, size in holders)
        rows = tuple(GpuProcess(tree.pid, size) for tree, size in holders if size > 0)
        return GpuSample(
            gpu.uuid,
            gpu.index,
            "a GPU",
            self.now_s if gpu.frozen_s is None else gpu.frozen_s,
            state=gpu.state,
            memory_total_bytes=gpu.total_bytes,
            memory_used_bytes=used if ok and gpu.readable else Missing("cannot read"),
            temperature_c=gpu.celsius,
            unified=gpu.unified,
            utilization_percent=gpu.utilization,
            power_w=gpu.watts,
            power_limit_w=300.0,
            processes=rows if ok and gpu.listed else Missing("cannot list"),
        )

    # -- what happens

    def exits(self, name: str = "chat", *, code: int | None = 1, signum: int | None = None) -> None:
        """End the main process of a worker; its other processes stay."""
        self.end_main(self.tree(name), code=None if signum else code, signum=signum)

    def asks(self, wish: Wish, *names: str, now: bool = False, reason: str = "") -> Asked:
        """Return what an operator asks."""
        return Asked(wish, names or ("chat",), now=now, reason=reason, by="uid 1000")

    def answers(self, good: bool, detail: str = "as asked") -> None:  # noqa: FBT001 - the answer is the point
        """Answer every probe that is open."""
        probes, self.probes = self.probes, []
        for one in probes:
            self.inbox.append(Probed(one.worker, one.run, one.purpose, good, detail))

    def notifies(self, name: str = "chat", **fields: Any) -> Notified:  # noqa: ANN401 - any field of the message
        """Return a message of a worker to its NOTIFY_SOCKET."""
        return Notified(name, self.life(name).run, **fields)

    def reports(self, name: str = "chat", *, beat: bool = False, **fields: Any) -> Reported:  # noqa: ANN401
        """Return a report of a worker's guard, heard now."""
        beat_s = self.now_s if beat else None
        return Reported(name, self.life(name).run, Report(v=1, beat=beat, **fields), self.now_s, beat_s)

    def reload(self, *workers: WorkerPlan) -> None:
        """Put other workers into the configuration."""
        self.plan = replace(self.plan, workers={one.name: one for one in workers})

    def crash(self) -> None:
        """Kill the daemon and start the next one, which finds what the first one left."""
        kept = msgspec.json.decode(msgspec.json.encode(self.memory), type=Memory)
        self.memory = resume(kept, self.now_s)
        self.inbox, self.probes, self.sightings, self.look_s, self.done = [], [], {}, 0.0, False
        self.wake_s = None
        self.promises.restarted()
        for one in self.memory.workers.values():
            if (life := one.life) is not None:
                self._adopt(one.name, life)

    def _adopt(self, name: str, life: Life) -> None:
        tree = self.trees.get(life.run)
        if tree is None:
            self.inbox.append(LaunchFailed(name, life.run, "it was never launched"))
        elif not tree.main:
            if life.identity is None:
                self.inbox.append(Launched(name, life.run, Identity("boot", tree.pid, tree.pid)))
            self.inbox.append(Exited(name, life.run))
        elif life.identity is None:
            self.inbox.append(Launched(name, life.run, Identity("boot", tree.pid, tree.pid)))

    # -- what is done

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, Launch):
            self._launch(action)
        elif isinstance(action, Signal):
            tree = self.trees.get(action.run)
            if tree is not None and tree.main and tree.obeys:
                self.end_main(tree, code=0, signum=None)
        elif isinstance(action, Kill):
            tree = self.trees.get(action.run)
            if tree is not None and tree.killable:
                tree.others.clear()
                self.end_main(tree, code=None, signum=9)
        elif isinstance(action, Forget):
            self.trees.pop(action.run, None)
        elif isinstance(action, Probe):
            self.probes.append(action)
            if self.answer is not None:
                self.answers(self.answer)
        elif isinstance(action, Reckon) and self.fits is not None:
            missing = None if self.fits else "not to be read"
            rungs = self.offers(action) if self.fits else Rungs()
            self.inbox.append(Reckoned(action.worker, action.asked_s, self.fits, missing, rungs))

    def _launch(self, order: Launch) -> None:
        if self.launch_fails is not None:
            self.inbox.append(
                LaunchFailed(order.worker, order.run, self.launch_fails, hopeless=self.hopeless)
            )
            return
        self.pids += 10
        self.trees[order.run] = Tree(order.worker, order.run, self.pids, **self.newborn)
        self.inbox.append(Launched(order.worker, order.run, Identity("boot", self.pids, self.pids)))

    def end_main(
        self,
        tree: Tree,
        *,
        code: int | None,
        signum: int | None,
        counters: Mapping[str, int] | None = None,
        verdict: Verdict | None = None,
    ) -> None:
        """End the main process of a tree, and tell how; by the kernel's OOM killer where it has counted."""
        if not tree.main:
            return
        tree.main = False
        if not tree.others:
            tree.vram.clear()
        told: dict[str, Any] = {"verdict": verdict}
        if counters is not None:
            told |= {"oom_kill": True, "detail": "its limit", "counters": counters}
        self.inbox.append(Exited(tree.worker, tree.run, code=code, signal=signum, **told))

    def _check_trees(self) -> None:
        alive: dict[str, str] = {}
        for tree in self.trees.values():
            if tree.pids:
                assert tree.worker not in alive, (
                    f"{tree.worker} lives twice: {alive[tree.worker]}, {tree.run}"
                )
                alive[tree.worker] = tree.run
        for name, run in alive.items():
            life = self.memory.workers[name].life
            assert life is not None, f"{run} lives, and nobody remembers it"
            assert life.run == run, f"{run} lives beside {life.run}"


def phases(world: World) -> Mapping[str, str]:
    """Return the phase of every worker in words."""
    return {name: str(one.phase) for name, one in world.memory.workers.items()}
