"""Whatever happens, in whatever order, the promises hold, and there is a way home.

The rules are the world's events. `promises.Promises` checks every turn of every history; the end of each
history heals the world and wants every worker where it belongs.
"""

from typing import Any, Literal

from hypothesis import HealthCheck, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from msgspec.structs import replace

from decide.offers import LITERAL, half_the_context
from decide.world import GIB, GPU_A, GPU_B, MIB, Tree, World, phases, plan_of, replicas, worker
from supervisor.model.condition import Both, Comparison, Condition, Either, Flag, Not, written
from supervisor.model.fit import Fit
from supervisor.model.news import OomKilled, Shutdown, Wish, XidSeen
from supervisor.model.phase import GpuState, Phase, Pressure
from supervisor.model.plan import (
    AfterTarget,
    AlertRule,
    AlertsPlan,
    BreachRule,
    CommandTarget,
    DrainRule,
    GpuChoice,
    GpuPlan,
    GuardTarget,
    HealthRule,
    HttpTarget,
    MemoryCaps,
    NotifyTarget,
    Plan,
    RestartRule,
    Setting,
    WorkerPlan,
)
from supervisor.model.reading import Missing
from supervisor.model.report import MemoryReport
from supervisor.model.verdict import Death, Verdict

HTTP = HttpTarget("http://127.0.0.1:8081/health")
QUICK: dict[str, Any] = {
    "restart": RestartRule(first_s=1.0, max_s=8.0, starts=4, within_s=60.0),
    "start_timeout_s": 20.0,
    "stop_timeout_s": 5.0,
    "breach": BreachRule(samples=2, of=3, warm_up_s=2.0),
}
JOB: dict[str, Any] = {**QUICK, "restart": replace(QUICK["restart"], on="failure")}


def variants(which: int) -> Plan:
    """Return one of four configurations: workers come, go and change between them."""
    chat = worker(
        "chat",
        memory=MemoryCaps(cap_bytes=GIB),
        vram_cap_bytes=8 * GIB,
        gpus=GpuChoice("listed", (0,)),
        ready=HTTP,
        health=HealthRule(HTTP, interval_s=3.0, timeout_s=2.0, failures=2),
        drain=DrainRule(CommandTarget(("idle",)), timeout_s=6.0),
        stop_again_s=2.0,
        priority=1,
        command=("serve", "{n_gpu_layers}", "{ctx}"),
        settings={"n_gpu_layers": 25, "ctx": 4096},
        ladder=({"n_gpu_layers": 15}, {"ctx": 2048}),
        climb_after_s=100.0 if which else None,
        **QUICK,
    )
    whisper = worker(
        "whisper", gpus=GpuChoice("listed", (GPU_A,)), ready=NotifyTarget(), heartbeat_s=30.0, **JOB
    )
    embed = replicas(
        "embed",
        2,
        memory=MemoryCaps(cap_bytes=GIB),
        max_age_s=120.0,
        gpus=GpuChoice("auto", count=1),
        ready=AfterTarget(1.0),
        **QUICK,
    )
    guarded = DrainRule(GuardTarget(), timeout_s=6.0)
    web = worker("web", after=("chat",), max_age_s=90.0, priority=which % 2, drain=guarded, **QUICK)
    workers: tuple[WorkerPlan, ...] = (chat, whisper, *embed, web)
    if which == 2:
        workers = (embed[0], chat, worker("extra", priority=-1, **JOB))
    if which == 3:
        workers = (worker("chat", **QUICK), *embed, web, reckoned("listed"))
    if which == 1:
        workers = (*workers, reckoned("any"))
    if which == 0:
        made = {"command": LITERAL, "gpus": GpuChoice("listed", (0,)), "ready": NotifyTarget()}
        workers = (*workers, worker("extra", **made, climb_after_s=100.0, **QUICK))
    gpu = GpuPlan(restart_above=0.85 if which else None, restart_for_s=5.0)
    return plan_of(*workers, gpu=gpu, alerts=AlertsPlan(ALERTS[which:], repeat_s=60.0))


def rule_of(name: str, condition: Condition, for_s: float = 0.0) -> AlertRule:
    return AlertRule(name, written(condition), condition, for_s)


ALERTS = (
    rule_of("GpuFull", Comparison("gpu.used", ">", 85.0, "percent"), 5.0),
    rule_of("Held", Flag("worker.held")),
    rule_of("Big", Comparison("worker.memory", ">", 90.0, "percent"), 2.0),
    rule_of("NotReady", Not(Comparison("worker.phase", "==", "ready", "word"))),
    rule_of(
        "Poor",
        Either(
            (
                Comparison("host.pressure", ">=", "critical", "word"),
                Both((Comparison("supervisor.held", ">", 0.0, "number"), Flag("gpu.hot"))),
            )
        ),
    ),
)


def reckoned(kind: Literal["listed", "any"]) -> WorkerPlan:
    """Return a llama.cpp server whose layers and context are chosen at each start."""
    gpus = GpuChoice(kind, (0, 1) if kind == "listed" else ())
    command = ("llama-server", "-ngl", "{n_gpu_layers}", "-c", "{ctx}")
    settings: dict[str, Setting] = {"n_gpu_layers": "auto", "ctx": "auto"}
    return worker("extra", command=command, settings=settings, gpus=gpus, ready=NotifyTarget(), **QUICK)


# From the best to the poorest; the last one fits whatever the world comes to, once it is healed.
FITS = (
    Fit({"n_gpu_layers": 33, "ctx": 8192}, GIB, GIB, (18 * GIB, 8 * GIB)),
    Fit({"n_gpu_layers": 9, "ctx": 4096}, GIB, 2 * GIB, (3 * GIB, 3 * GIB)),
    Fit({"n_gpu_layers": 0, "ctx": 4096}, GIB, 4 * GIB),
)
NAMES = st.sampled_from(["chat", "whisper", "embed-1", "embed-2", "web", "extra"])
GPUS = st.sampled_from([GPU_A, GPU_B])
WISHES: st.SearchStrategy[Wish] = st.sampled_from(("start", "stop", "restart", "reset"))
SIZES: st.SearchStrategy[int | Missing] = st.sampled_from((100 * MIB, 3 * GIB, Missing("EACCES")))
AVAILABLE: st.SearchStrategy[int | Missing] = st.sampled_from(
    (40 * GIB, 40 * GIB, 3 * GIB, GIB + GIB // 2, GIB // 2, Missing("EIO"))
)


class Histories(RuleBasedStateMachine):
    """One machine with two GPUs, to which anything may happen."""

    world: World
    lines = 0  # of the kernel's log

    @initialize(which=st.integers(0, 3), answer=st.sampled_from([True, None]))
    def begin(self, which: int, answer: bool | None) -> None:  # noqa: FBT001 - drawn by name
        self.world = World(gpus=[GPU_A, GPU_B])
        self.world.promises.deep_every = 5
        self.world.plan = variants(which)
        self.world.fits, self.world.offers = FITS, half_the_context
        self.world.answer = answer
        self.world.settle()

    def trees(self, name: str) -> list[Tree]:
        return [tree for tree in self.world.trees.values() if tree.worker == name]

    @rule(span_s=st.sampled_from([0.1, 0.7, 2.5, 9.0, 40.0]))
    def time_passes(self, span_s: float) -> None:
        self.world.pass_s(span_s)

    @rule(name=NAMES, code=st.sampled_from([0, 1, 79, None]), child=st.booleans())
    def a_worker_exits(self, name: str, code: int | None, child: bool) -> None:  # noqa: FBT001
        for tree in self.trees(name):
            if tree.main:
                tree.others = [tree.pid + 1] if child else tree.others
                self.world.end_main(tree, code=code, signum=None if code is not None else 11)
        self.world.settle()

    @rule(name=NAMES, death=st.sampled_from(list(Death)))
    def a_worker_says_why_it_dies(self, name: str, death: Death) -> None:
        self.dies_of(name, death)
        self.world.settle()

    @rule(death=st.sampled_from([Death.VRAM_OOM, Death.HOST_OOM]), span_s=st.sampled_from([0.0, 9.0, 9.0]))
    def the_one_with_a_ladder_runs_out_of_memory(self, death: Death, span_s: float) -> None:
        self.dies_of("chat", death)
        self.world.pass_s(span_s)

    @rule(death=st.sampled_from([Death.VRAM_OOM, Death.HOST_OOM]), span_s=st.sampled_from([0.0, 9.0, 9.0]))
    def the_one_without_a_ladder_runs_out_of_memory(self, death: Death, span_s: float) -> None:
        self.dies_of("extra", death)
        self.world.pass_s(span_s)

    @rule(
        name=NAMES,
        uuid=st.sampled_from([GPU_A, GPU_B, None]),
        code=st.sampled_from([13, 31, 45, 63, 48, 79, 9999]),
        again=st.booleans(),
        dies=st.booleans(),
    )
    def the_kernels_log_has_an_xid(
        self,
        name: str,
        uuid: str | None,
        code: int,
        again: bool,  # noqa: FBT001
        dies: bool,  # noqa: FBT001
    ) -> None:
        self.lines += 0 if again else 1
        seen = XidSeen(code, "its text", f"0000:0{uuid or 0}:00", self.lines, self.world.now_s, gpu=uuid)
        for tree in self.trees(name):
            seen = replace(seen, pid=tree.pid, worker=name, run=tree.run)
            if dies:
                self.world.end_main(tree, code=1, signum=None)
        self.world.settle(seen)

    @rule(name=NAMES, main=st.booleans(), late=st.booleans())
    def the_kernel_kills_for_want_of_memory(self, name: str, main: bool, late: bool) -> None:  # noqa: FBT001
        for tree in self.trees(name):
            pid = tree.pid if main else tree.pid + 1
            told = OomKilled(name, tree.run, pid, "serve", self.world.now_s, anon_bytes=GIB)
            if main:
                self.world.end_main(tree, code=None, signum=9)
            else:
                tree.others = []
            self.world.inbox.insert(len(self.world.inbox) if late else 0, told)
        self.world.settle()

    def dies_of(self, name: str, death: Death) -> None:
        for tree in self.trees(name):
            if tree.main:
                self.world.end_main(tree, code=1, signum=None, verdict=Verdict(death, "its line"))

    @rule(name=NAMES, obeys=st.booleans(), killable=st.booleans(), child=st.booleans())
    def a_worker_hangs_or_not(self, name: str, obeys: bool, killable: bool, child: bool) -> None:  # noqa: FBT001
        for tree in self.trees(name):
            tree.obeys, tree.killable = obeys, killable
            if child and tree.main and not tree.others:
                tree.others = [tree.pid + 1]

    @rule(why=st.sampled_from([None, None, "no such file"]), hopeless=st.booleans())
    def launches_fail(self, why: str | None, hopeless: bool) -> None:  # noqa: FBT001
        self.world.launch_fails, self.world.hopeless = why, hopeless

    @rule(name=NAMES, size=SIZES, growth=st.sampled_from([0.0, 1e9]))
    def its_memory_changes(self, name: str, size: int | Missing, growth: float) -> None:
        for tree in self.trees(name):
            tree.memory_bytes, tree.growth_bytes_s = size, growth

    @rule(name=NAMES, seen=st.booleans())
    def its_sensor_is_lost_or_back(self, name: str, seen: bool) -> None:  # noqa: FBT001
        for tree in self.trees(name):
            tree.seen = seen

    @rule(name=NAMES, uuid=GPUS, size=st.sampled_from([0, 4 * GIB, 12 * GIB]))
    def its_gpu_memory_changes(self, name: str, uuid: str, size: int) -> None:
        for tree in self.trees(name):
            if tree.main:
                tree.vram[uuid] = size

    @rule(uuid=GPUS, state=st.sampled_from(list(GpuState)), there=st.sampled_from([True, True, False]))
    def a_gpu_is_lost_or_back(self, uuid: str, state: GpuState, there: bool) -> None:  # noqa: FBT001
        self.world.gpus[uuid].state, self.world.gpus[uuid].there = state, there

    @rule(uuid=GPUS, readable=st.booleans(), listed=st.booleans(), nobody_gib=st.sampled_from([0, 5, 22]))
    def a_gpu_fills_or_goes_blind(self, uuid: str, readable: bool, listed: bool, nobody_gib: int) -> None:  # noqa: FBT001
        gpu = self.world.gpus[uuid]
        gpu.readable, gpu.listed, gpu.nobody_bytes = readable, listed, nobody_gib * GIB

    @rule(size=AVAILABLE)
    def host_memory_changes(self, size: int | Missing) -> None:
        self.world.available = size

    @rule(full=st.sampled_from([0.0, 80.0, None]), swap=st.sampled_from([0, 8 * GIB]))
    def the_host_stalls(self, full: float | None, swap: int) -> None:
        psi = Missing("no PSI") if full is None else full
        self.world.host = {"psi_full_avg10": psi, "swap_total_bytes": swap}

    @rule(policy=st.sampled_from([True, True, False, None]), now=st.booleans())
    def probes_are_answered(self, policy: bool | None, now: bool) -> None:  # noqa: FBT001
        self.world.answer = policy
        if now:
            self.world.answers(good=bool(policy), detail="late")

    @rule(
        name=NAMES,
        field=st.sampled_from(["ready", "watchdog", "trigger", "stopping"]),
        extend=st.sampled_from([None, 30.0]),
    )
    def a_worker_notifies(self, name: str, field: str, extend: float | None) -> None:
        one = self.world.memory.workers.get(name)
        if one is not None and one.life is not None:
            self.world.settle(self.world.notifies(name, **{field: True}, extend_s=extend))

    @rule(
        name=NAMES,
        level=st.sampled_from([None, *Pressure]),
        ooms=st.integers(0, 2),
        drained=st.booleans(),
        poisoned=st.sampled_from([None, None, "device-side assert"]),
    )
    def a_guard_reports(
        self,
        name: str,
        level: Pressure | None,
        ooms: int,
        drained: bool,  # noqa: FBT001
        poisoned: str | None,
    ) -> None:
        one = self.world.memory.workers.get(name)
        if one is not None and one.life is not None:
            memory = MemoryReport(oom_events=ooms)
            fields = {"level": level, "memory": memory, "drained": drained, "poisoned": poisoned}
            self.world.settle(self.world.reports(name, beat=True, ready=ooms == 0, **fields))

    @rule(fits=st.sampled_from([FITS, FITS[1:], None, (replace(FITS[2], assumed="cut"),)]))
    def models_are_reckoned_otherwise(self, fits: tuple[Fit, ...] | None) -> None:
        self.world.fits = fits

    @rule(wish=WISHES, name=st.sampled_from(["chat", "embed", "embed-1", "web", "nobody"]), now=st.booleans())
    def an_operator_asks(self, wish: Wish, name: str, now: bool) -> None:  # noqa: FBT001
        self.world.settle(self.world.asks(wish, name, now=now))

    @rule(which=st.integers(0, 3))
    def the_configuration_is_reloaded(self, which: int) -> None:
        self.world.pass_s(0.002)  # a run is named after the millisecond of its launch
        self.world.plan = variants(which)
        self.world.pass_s(0.01)

    @rule(days=st.sampled_from([-1, 1]))
    def the_clock_is_stepped(self, days: int) -> None:
        self.world.wall_s += days * 86_400

    @rule(before_acting=st.booleans())
    def the_daemon_is_killed(self, before_acting: bool) -> None:  # noqa: FBT001
        if before_acting:
            self.world.crash_before_acting = True
        else:
            self.world.crash()
            self.world.settle()

    @precondition(lambda self: not self.world.memory.stopping)
    @rule(how=st.sampled_from(["gently", "hurry", "leave"]), span_s=st.sampled_from([1.0, 8.0]))
    def the_daemon_is_told_to_end(self, how: str, span_s: float) -> None:
        self.world.settle(Shutdown(hurry=how == "hurry", leave=how == "leave"))
        self.world.pass_s(span_s)
        self.world.crash()
        self.world.settle()

    def teardown(self) -> None:
        """Heal the world: everybody wanted and not held is ready in the end, everybody else at rest."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.promises.deep_every, world.crash_before_acting = 0, False
        world.available, world.host, world.launch_fails, world.answer = 40 * GIB, {}, None, True
        world.fits = FITS
        for gpu in world.gpus.values():
            gpu.state, gpu.there, gpu.readable, gpu.listed, gpu.nobody_bytes = (
                GpuState.OK,
                True,
                True,
                True,
                0,
            )
        for name in world.memory.workers:  # an operator trusts a GPU again that was called broken
            if any(gpu.until_reset for gpu in world.memory.gpus.values()):
                world.settle(world.asks("reset", name))
        for _ in range(80):
            for tree in world.trees.values():
                tree.obeys, tree.killable, tree.seen = True, True, True
                tree.memory_bytes, tree.growth_bytes_s = 100 * MIB, 0.0
                tree.vram.clear()
            world.answers(good=True)
            lives = [name for name, one in world.memory.workers.items() if one.life is not None]
            world.pass_s(3.0, *[world.notifies(name, ready=True, watchdog=True) for name in lives])
            if all(self.is_home(name) for name in world.memory.workers):
                return
        raise AssertionError(f"no way home: {phases(world)} {world.memory}")

    def is_home(self, name: str) -> bool:
        one = self.world.memory.workers[name]
        if not one.wanted:
            return one.phase is Phase.STOPPED
        if one.phase is Phase.WAITING and self.world.plan.workers[name].after == ("chat",):
            chat = self.world.memory.workers.get("chat")  # what it waits for may be held, or not wanted
            return chat is not None and chat.phase in {Phase.HELD, Phase.STOPPED}
        return one.phase in {Phase.READY, Phase.HELD}


Histories.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=30,
    deadline=None,
    phases=[Stage.explicit, Stage.reuse, Stage.generate, Stage.shrink],  # to explain takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestWhateverHappensThePromisesHold = Histories.TestCase
