"""One observation: what is read in a turn, and what is carried over from an earlier one."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from supervisor.model.memory import Life, Memory
from supervisor.model.phase import Phase
from supervisor.model.plan import LlamaTarget
from supervisor.model.snapshot import GpuSample, HostSample, Sighting, Snapshot
from supervisor.sense.cpu_time import cpu_time_s
from supervisor.sense.gpu.attribute import with_vram
from supervisor.sense.gpu.sensor import GpuSensor
from supervisor.sense.host import HostSensor
from supervisor.sense.trees import Trees

# Its tree is about to be empty: it is looked at in every turn.
LEAVING: Final = frozenset({Phase.KILLING, Phase.RECLAIMING})
# Above this share of its cap, a worker of several processes is measured without counting shared pages twice.
EXACT_FROM: Final = 0.8


class Sensors(Struct, frozen=True):
    """Everything that reads the world."""

    host: HostSensor
    trees: Trees
    gpu: GpuSensor
    stirred: Callable[[], frozenset[str]] = frozenset  # workers that have met a limit of the kernel's
    proc: Path = Path("/proc")


class Observer:
    """Reads the world into snapshots. It changes nothing."""

    def __init__(self, sensors: Sensors) -> None:
        """Read with these sensors."""
        self._sensors = sensors
        self._sightings: Mapping[str, Sighting] = {}
        self._gpus: tuple[GpuSample, ...] = ()
        self._measuring: set[asyncio.Task[None]] = set()

    def glance(self, now_s: float) -> HostSample:
        """Read the host's memory only."""
        return self._sensors.host.read(now_s)

    def look_closer(self, host: HostSample) -> HostSample:
        """Read what a glance leaves out of the host's memory."""
        return self._sensors.host.closer(host)

    def observe(
        self,
        host: HostSample,
        memory: Memory,
        wall_s: float,
        due: frozenset[str] | None,
        gone: frozenset[str],
    ) -> Snapshot:
        """Take a snapshot: of everyone where `due` is None, else of those, of `gone` and of who leaves.

        The trees of `gone` and of those that leave are found anew.
        """
        now_s = host.read_s
        lives = {name: worker.life for name, worker in memory.workers.items() if worker.life is not None}
        leaving = {name for name in lives if name in gone or memory.workers[name].phase in LEAVING}
        if due is None or leaving:
            self._sensors.trees.refresh()
        wanted = set(lives) if due is None else leaving.union(due, self._sensors.stirred())
        gpus = self._sensors.gpu.gpus()
        same_gpus = gpus == self._gpus
        self._gpus = gpus
        if due is None or any(lives[name].gpus or lives[name].seen_gpus for name in leaving):
            self._sensors.gpu.request()
        self._sightings = {
            name: self._sight(name, life, now_s, fresh=name in wanted, same_gpus=same_gpus)
            for name, life in lives.items()
            if life.identity is not None
        }
        missing = self._sensors.gpu.missing()
        return Snapshot(now_s, wall_s, host, gpus, missing, self._sightings)

    def _sight(self, name: str, life: Life, now_s: float, *, fresh: bool, same_gpus: bool) -> Sighting:
        past = self._sightings.get(name)
        if not fresh and past is not None and past.run == life.run:
            return past if same_gpus else with_vram(past, self._gpus, life.gpus)
        seen = with_vram(self._sensors.trees.sight(life.run, now_s), self._gpus, life.gpus)
        health = life.plan.health
        if health is None or not isinstance(health.target, LlamaTarget):
            return seen
        return replace(seen, cpu_s=cpu_time_s(self._sensors.proc, seen.pids))

    def owner_of(self, pid: int, memory: Memory) -> tuple[str, str] | None:
        """Return the worker and the run that a process was last seen to be of; it may be gone by now."""
        for name, worker in memory.workers.items():
            life, seen = worker.life, self._sightings.get(name)
            if life is None or life.identity is None:
                continue
            if life.identity.pid == pid or (seen is not None and seen.run == life.run and pid in seen.pids):
                return name, life.run
        return None

    def find_children(self) -> None:
        """Look for what workers have started since the last look, while their parents live to tell.

        A child that left the session and wiped its environment can be told by its parent alone: it is
        looked for before that is signalled.
        """
        self._sensors.trees.refresh()

    def measure_exactly(self, memory: Memory, now_s: float) -> None:
        """Have the trees that come near their cap measured in a thread, shared pages counted once."""
        trees = self._sensors.trees
        for worker in memory.workers.values():
            life = worker.life
            cap = None if life is None else life.plan.memory.cap_bytes
            if life is None or cap is None or life.identity is None:
                continue
            if trees.exact_due(life.run, int(cap * EXACT_FROM), now_s):
                task = asyncio.create_task(self._measure(life.run))
                self._measuring.add(task)
                task.add_done_callback(self._measuring.discard)

    async def _measure(self, run: str) -> None:
        with contextlib.suppress(RuntimeError):  # no thread can be started: the machine is out of pids
            await asyncio.to_thread(self._sensors.trees.exact, run)
