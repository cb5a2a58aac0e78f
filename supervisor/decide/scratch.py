"""The scratch pad of one turn: what is decided so far, written down until the turn is over."""

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from supervisor.decide.lifecycle import LIVING, Event, move
from supervisor.model.action import Action, Notice
from supervisor.model.memory import GpuMemory, HostMemory, Life, Memory, WorkerMemory
from supervisor.model.phase import Phase, Pressure
from supervisor.model.plan import Plan
from supervisor.model.snapshot import GpuSample, Sighting, Snapshot


class Promise(Struct, frozen=True):
    """Memory that a worker is to find; only from others of no higher priority, where `priority` is one."""

    worker: str
    size_bytes: int
    priority: int | None = None


class Scratch:
    """One turn at work. It is made by `decide`, and nobody else ever holds it."""

    __slots__ = (
        "actions",
        "blind",
        "gpus",
        "host",
        "hurry",
        "leave",
        "ledger",
        "memory",
        "plan",
        "samples",
        "snapshot",
        "stopping",
        "workers",
    )

    def __init__(self, plan: Plan, memory: Memory, snapshot: Snapshot) -> None:
        """Begin with what is remembered."""
        self.plan = plan
        self.memory = memory
        self.snapshot = snapshot
        self.workers: dict[str, WorkerMemory] = dict(memory.workers)
        self.gpus: dict[str, GpuMemory] = dict(memory.gpus)
        self.samples: Mapping[str, GpuSample] = {sample.uuid: sample for sample in snapshot.gpus}
        self.host: HostMemory = memory.host
        self.stopping = memory.stopping
        self.hurry = memory.hurry
        self.leave = False  # the daemon ends, and the workers run on
        self.blind = False  # the host's memory could not be read
        self.ledger: Mapping[str, Sequence[Promise]] | None = None  # until somebody asks for it
        self.actions: list[Action] = []

    @property
    def now_s(self) -> float:
        """The monotonic time of this turn."""
        return self.snapshot.taken_s

    def put(self, worker: WorkerMemory) -> WorkerMemory:
        """Remember this worker from now on."""
        self.workers[worker.name] = worker
        return worker

    def step(self, worker: WorkerMemory, event: Event) -> WorkerMemory:
        """Move a worker along its table."""
        phase = move(worker.phase, event)
        if phase is worker.phase:
            return worker
        return self.put(replace(worker, phase=phase, since_s=self.now_s, waits_for=None, done=None))

    def sighting(self, worker: WorkerMemory) -> Sighting | None:
        """Return what was seen of this life of the worker, if anything was."""
        seen = self.snapshot.workers.get(worker.name)
        if seen is None or worker.life is None or seen.run != worker.life.run:
            return None
        return seen

    def living(self) -> list[tuple[WorkerMemory, Life]]:
        """Return every worker that has a life, with it."""
        return [
            (one, one.life) for one in self.workers.values() if one.life is not None and one.phase in LIVING
        ]

    def do(self, action: Action) -> None:
        """Decide on an action."""
        self.actions.append(action)

    def tell(self, notice: Notice) -> None:
        """Tell people; what is told of a worker belongs to its open incident."""
        worker = self.workers.get(notice.worker or "")
        if worker is not None and notice.incident is None:
            notice = replace(notice, incident=worker.incident)
        self.do(notice)

    def busy_gpu(self, gpus: tuple[str, ...], phases: frozenset[Phase], but: str) -> tuple[str, str] | None:
        """Return a GPU of `gpus` on which another worker is in one of `phases`, and that worker."""
        wanted = set(gpus)
        for worker, life in self.living():
            if worker.name != but and worker.phase in phases and (shared := wanted.intersection(life.gpus)):
                return min(shared), worker.name
        return None

    @property
    def no_room(self) -> str | None:
        """Say why the machine is not known to have room for anything new, or None where it is."""
        if self.blind:
            return "the host's memory cannot be read"
        if self.host.pressure in {Pressure.NORMAL, Pressure.HIGH}:
            return None
        return f"the host's memory is {self.host.pressure}"
