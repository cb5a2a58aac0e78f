import asyncio
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from supervisor.act.alert_text import Origin
from supervisor.act.drain_command import DrainCommands
from supervisor.act.executor import Askers, Executor
from supervisor.act.herald import Herald
from supervisor.act.orphans import reap_orphans
from supervisor.act.prober import Prober
from supervisor.act.reckoner import Reckoner
from supervisor.act.worker_logs import WorkerLogs
from supervisor.model.action import Advise, Alert, Forget, Kill, Launch, Notice, Probe, Signal
from supervisor.model.alert import AlertStatus
from supervisor.model.memory import Life
from supervisor.model.news import Exited, LaunchFailed, News, Probed
from supervisor.model.phase import Pressure
from supervisor.model.plan import CommandTarget, ProbeTarget, TcpTarget, WebhookNotify
from supervisor.model.report import Words
from supervisor.model.snapshot import Identity
from support.launching import PATIENCE_S, alive, plan
from support.receiving import receiving

ORDER = Launch("chat", "run-1", plan("chat", "sleep", "100"), {"port": 8081}, None, "a test")
NOTICE = Notice("info", "worker started", "it is wanted", worker="chat")


class _Recorder:
    """A launcher that writes down what it is asked, and refuses where it is told to."""

    kind = "recorder"

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.refuses: OSError | None = None

    def launch(self, order: Launch) -> None:
        self._take(order)

    def signal(self, order: Signal) -> None:
        self._take(order)

    def kill(self, order: Kill) -> None:
        self._take(order)

    def forget(self, order: Forget) -> None:
        self._take(order)

    def advise(self, order: Advise) -> None:
        self._take(order)

    async def adopt(self, lives: Mapping[str, Life]) -> Mapping[str, Identity]:
        self.asked.append(lives)
        return {}

    def close(self) -> None:
        self.asked.append("close")

    def _take(self, order: object) -> None:
        self.asked.append(order)
        if self.refuses is not None:
            raise self.refuses


async def _until(condition: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s
        await asyncio.sleep(0.005)


class _Desk:
    """An executor over a recorder, with what it told."""

    def __init__(self, directory: Path, *, dry_run: bool = False) -> None:
        self.news: list[News] = []
        self.notices: list[Notice] = []
        self.launcher = _Recorder()
        self.logs = WorkerLogs(directory / "log")
        loop = asyncio.get_running_loop()
        self.prober = Prober(DrainCommands(self.logs), self.news.append, loop)
        self.herald = Herald(Origin("box", ""), (), self.notices.append)
        self.executor = Executor(
            self.launcher,
            Askers(self.prober, Reckoner(self.news.append, loop), self.herald),
            self.notices.append,
            self.news.append,
            dry_run=dry_run,
        )

    def probe(self, target: ProbeTarget, timeout_s: float = 10.0, run: str = "run-1") -> None:
        self.executor.carry_out([Probe("chat", run, "drain", target, timeout_s, "a test")])

    async def answer(self) -> Probed:
        await _until(lambda: bool(self.news))
        news = self.news.pop(0)
        assert isinstance(news, Probed)
        return news


def _play(directory: Path, scene: Callable[[_Desk], Awaitable[None]], *, dry_run: bool = False) -> None:
    async def played() -> None:
        desk = _Desk(directory, dry_run=dry_run)
        try:
            await scene(desk)
        finally:
            desk.executor.close()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    asyncio.run(played())


def test_every_action_goes_to_whom_it_concerns(tmp_path: Path) -> None:
    stop = Signal("chat", "run-1", signal.SIGTERM, "a test")
    kill = Kill("chat", "run-1", "a test")
    advise = Advise("chat", "run-1", Words(host=Pressure.HIGH), "a test")
    forget = Forget("chat", "run-1", "a test")

    async def scene(desk: _Desk) -> None:
        desk.executor.carry_out([ORDER, NOTICE, advise, stop, kill, forget])
        assert desk.launcher.asked == [ORDER, advise, stop, kill, forget]
        assert desk.notices == [NOTICE]

    _play(tmp_path, scene)


def test_an_alert_goes_to_its_receivers(tmp_path: Path) -> None:
    async def scene(desk: _Desk) -> None:
        with receiving() as server:
            desk.herald.tend([WebhookNotify(server.url, "json")], tuple)
            alert = AlertStatus("GPUHot", "warning", "firing", "GPU 0 is hot", since_wall_s=5.0)
            desk.executor.carry_out([Alert(alert, alert.summary)])
            await _until(lambda: bool(server.documents))
            assert server.alerts() == [("GPUHot", "firing")]
        assert desk.launcher.asked == []

    _play(tmp_path, scene)


def test_a_dry_run_tells_people_and_touches_nothing(tmp_path: Path) -> None:
    async def scene(desk: _Desk) -> None:
        advise = Advise("chat", "run-1", Words(), "a test")
        desk.executor.carry_out([ORDER, NOTICE, advise, Kill("chat", "run-1", "a test")])
        desk.probe(TcpTarget("127.0.0.1", 1))
        assert await desk.executor.adopt({}) == {}
        assert desk.launcher.asked == []
        assert [notice.event for notice in desk.notices] == ["would launch", NOTICE.event, "would kill"]
        assert desk.notices[2].reason == "a test (dry run: nothing is touched)"
        assert desk.news == [Exited("chat", "run-1")]  # as if the kill had been obeyed

    _play(tmp_path, scene, dry_run=True)


def test_what_the_operating_system_refuses_is_told_and_the_rest_is_carried_out(tmp_path: Path) -> None:
    async def scene(desk: _Desk) -> None:
        desk.launcher.refuses = PermissionError(1, "Operation not permitted")
        desk.executor.carry_out([ORDER, Kill("chat", "run-1", "a test"), NOTICE])
        assert desk.notices == [
            Notice(
                "error",
                "action failed",
                "cannot launch chat: Operation not permitted",
                worker="chat",
                fields={"action": "launch"},
            ),
            Notice(
                "error",
                "action failed",
                "cannot kill chat: Operation not permitted",
                worker="chat",
                fields={"action": "kill"},
            ),
            NOTICE,
        ]
        assert desk.news == [
            LaunchFailed("chat", "run-1", "cannot launch chat: Operation not permitted", hopeless=True)
        ]

    _play(tmp_path, scene)


def test_a_probe_is_answered(tmp_path: Path) -> None:
    async def scene(desk: _Desk) -> None:
        desk.executor.carry_out([ORDER])
        with socket.create_server(("127.0.0.1", 0)) as server:
            desk.probe(TcpTarget("127.0.0.1", server.getsockname()[1]))
            assert (await desk.answer()).good is True
        desk.probe(TcpTarget("127.0.0.1", _closed_port()))
        assert await desk.answer() == Probed(
            "chat", "run-1", "drain", good=False, detail="connection refused"
        )

    _play(tmp_path, scene)


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_a_probe_of_a_run_that_is_over_is_answered_at_once(tmp_path: Path) -> None:
    async def scene(desk: _Desk) -> None:
        desk.executor.carry_out([ORDER, Forget("chat", "run-1", "a test")])
        desk.probe(TcpTarget("127.0.0.1", 1))
        assert desk.news == [Probed("chat", "run-1", "drain", good=False, detail="its run is over")]

    _play(tmp_path, scene)


def test_a_drain_command_runs_as_a_part_of_the_worker_and_its_exit_code_is_the_answer(tmp_path: Path) -> None:
    async def scene(desk: _Desk) -> None:
        desk.executor.carry_out([ORDER])
        desk.probe(CommandTarget(("sh", "-c", "echo $GPU_SUPERVISOR_RUN; exit 0")))
        assert await desk.answer() == Probed("chat", "run-1", "drain", good=True, detail="it exited with 0")
        assert desk.logs.path("chat").read_text() == "run-1\n"
        desk.probe(CommandTarget(("sh", "-c", "exit 3")))
        assert await desk.answer() == Probed("chat", "run-1", "drain", good=False, detail="it exited with 3")
        desk.probe(CommandTarget(("sh", "-c", "kill -SEGV $$")))
        assert (await desk.answer()).detail == "it was ended by SIGSEGV"
        desk.probe(CommandTarget(("no-such-program",)))
        assert (await desk.answer()).detail.startswith("cannot run no-such-program: ")

    _play(tmp_path, scene)


def test_a_drain_command_past_its_deadline_is_killed_with_its_children(tmp_path: Path) -> None:
    async def scene(desk: _Desk) -> None:
        desk.executor.carry_out([ORDER])
        desk.probe(CommandTarget(("sh", "-c", "sleep 100 & echo $! $$; trap '' TERM; wait")), timeout_s=0.5)
        await asyncio.sleep(0)
        (child,) = desk.executor.children()
        assert await desk.answer() == Probed(
            "chat", "run-1", "drain", good=False, detail="it did not end within 0.5 s"
        )
        assert desk.executor.children() == frozenset()
        inner, outer = map(int, desk.logs.path("chat").read_text().split())
        assert outer == child
        await _gone(inner, outer)

    _play(tmp_path, scene)


def test_forgetting_a_life_ends_its_probes_unanswered(tmp_path: Path) -> None:
    async def scene(desk: _Desk) -> None:
        desk.executor.carry_out([ORDER])
        desk.probe(CommandTarget(("sleep", "100")))
        await asyncio.sleep(0)
        (child,) = desk.executor.children()
        desk.executor.carry_out([Forget("chat", "run-1", "a test")])
        await _gone(child)
        assert desk.news == []

    _play(tmp_path, scene)


async def _gone(*pids: int) -> None:
    await _until(lambda: not any(alive(pid) for pid in pids))
    reap_orphans(())


def test_an_adopted_life_can_be_probed(tmp_path: Path) -> None:
    life = Life("run-1", ORDER.plan, 0.0, 0.0, settings={"port": 8081})

    async def scene(desk: _Desk) -> None:
        await desk.executor.adopt({"chat": life})
        desk.probe(CommandTarget(("true",)))
        assert (await desk.answer()).good is True

    _play(tmp_path, scene)
