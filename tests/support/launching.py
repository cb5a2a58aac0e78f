"""A real DirectLauncher in a running loop, for tests that launch real workers."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

from supervisor.act.direct import DirectLauncher, LaunchPlaces
from supervisor.model.action import Forget, Kill, Launch, Signal
from supervisor.model.memory import Life
from supervisor.model.news import News
from supervisor.model.plan import WorkerPlan
from supervisor.model.snapshot import Identity
from supervisor.sense.forest import Forest
from supervisor.sense.procfs import read_stat

HOSTILE = Path(__file__).parent / "workers" / "hostile.py"
PATIENCE_S = 20.0
INSTANCE = f"test{os.getpid()}"  # several runs of the tests share a machine
Told = TypeVar("Told", bound=News)


def hostile(*arguments: str) -> tuple[str, ...]:
    """Return the command of a hostile worker."""
    return (sys.executable, "-S", str(HOSTILE), *arguments)


def plan(name: str, *command: str, **more: object) -> WorkerPlan:
    """Return the plan of a worker."""
    return WorkerPlan(name=name, base=name, command=command, **more)  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    """Return whether a process runs, zombies excepted."""
    stat = read_stat(Path("/proc"), pid)
    return stat is not None and not stat.dead


def exists(pid: int) -> bool:
    """Return whether a pid is taken, be it by a zombie."""
    return read_stat(Path("/proc"), pid) is not None


def start(*command: str, setsid: bool = False) -> int:
    """Start a child that is no worker, without an environment; return its pid."""
    return os.posix_spawn(command[0], command, {}, setsid=setsid)


def wait_unreaped(pid: int) -> None:
    """Wait until a child has ended, and leave it a zombie."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def exit_code(pid: int) -> int:
    """Reap a child; return its exit code, or its signal as a negative number."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def descriptors() -> set[str]:
    """Return the numbers of this process's open descriptors."""
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def noted(log: Path) -> dict[str, list[int]]:
    """Return the pids that a hostile worker wrote down, by what they are."""
    found: dict[str, list[int]] = {}
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        pid, what = line.split()
        found.setdefault(what, []).append(int(pid))
    return found


class Stage:
    """A launcher, what it told, and everything needed to look at what it does."""

    def __init__(self, directory: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.directory = directory
        self.places = LaunchPlaces(directory / "run", directory / "log", INSTANCE)
        self.news: list[News] = []
        self.warnings: list[str] = []
        self.forest = Forest()
        self.launcher = DirectLauncher(self.places, self.forest, self.news.append, loop, self.warnings.append)
        self._runs: dict[str, str] = {}
        self._begun: list[str] = []

    def launch(self, wanted: WorkerPlan, **more: object) -> str:
        """Launch a worker and return its run."""
        run = f"{INSTANCE}-{wanted.name}-{len(self._begun) + 1}-{time.monotonic_ns()}"
        self._begun.append(run)
        self._runs[run] = wanted.name
        order: dict[str, object] = {"settings": wanted.settings, "gpus": None, **more}
        self.launcher.launch(Launch(wanted.name, run, wanted, reason="a test", **order))  # type: ignore[arg-type]
        return run

    async def adopt(self, lives: Mapping[str, Life]) -> Mapping[str, Identity]:
        """Adopt lives; they are ended with the stage."""
        self._runs |= {life.run: worker for worker, life in lives.items()}
        return await self.launcher.adopt(lives)

    def signal(self, run: str, signum: int = signal.SIGTERM) -> None:
        """Signal the main process."""
        self.launcher.signal(Signal(self._runs[run], run, signum, "a test"))

    def kill(self, run: str) -> None:
        """Kill the tree, once."""
        self.launcher.kill(Kill(self._runs[run], run, "a test"))

    def forget(self, run: str) -> None:
        """Forget a life."""
        self.launcher.forget(Forget(self._runs.pop(run), run, "a test"))

    def members(self, run: str) -> set[int]:
        """Return the pids of the living members of a life, as of now."""
        self.forest.refresh(full=True)
        return {member.pid for member in self.forest.members(run)}

    def of(self, kind: type[Told], run: str) -> list[Told]:
        """Return what was told of a run."""
        return [news for news in self.news if isinstance(news, kind) and news.run == run]  # type: ignore[union-attr]

    async def told(self, kind: type[Told], run: str) -> Told:
        """Wait for news of a kind."""
        await self.until(lambda: bool(self.of(kind, run)), f"{kind.__name__} of {run}; told: {self.news}")
        return self.of(kind, run)[0]

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something is true."""
        give_up_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < give_up_s, f"waited for {what}"
            await asyncio.sleep(0.005)

    async def killed(self, run: str) -> None:
        """Kill the tree as the loop does, again while anything of it is left."""

        def nothing_left() -> bool:
            self.kill(run)
            return not self.members(run)

        await self.until(nothing_left, f"nothing left of {run}: {self.members(run)}")

    async def end(self) -> None:
        """End everything that was launched."""
        for run in tuple(self._runs):
            await self.killed(run)
            self.forget(run)
        self.launcher.reap_orphans()
        self.launcher.close()
        self.forest.close()


def play(directory: Path, scene: Callable[[Stage], Awaitable[None]]) -> None:
    """Run a scene in a loop of its own, and end whatever it started."""

    async def played() -> None:
        before = descriptors()
        stage = Stage(directory, asyncio.get_running_loop())
        try:
            await scene(stage)
        finally:
            await stage.end()
        assert descriptors() <= before, "descriptors were left open"

    asyncio.run(played(), debug=False)
