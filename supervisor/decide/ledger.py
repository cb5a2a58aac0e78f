"""The ledger of promised memory: what those that come up have not taken yet, and what is kept for others."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from supervisor.decide.footprint import settling
from supervisor.decide.needs import Need, need_of
from supervisor.decide.scratch import Promise, Scratch
from supervisor.model.headroom import effective_available
from supervisor.model.memory import Life, WorkerMemory
from supervisor.model.phase import Phase
from supervisor.model.plan import WorkerPlan
from supervisor.model.quantity import format_size
from supervisor.model.reading import NOT_READ_YET, Missing
from supervisor.model.snapshot import GpuSample, Sighting

HOST: Final = "host"
_COMING_UP: Final = frozenset({Phase.STARTING, Phase.READY})


class Room(Struct, frozen=True):
    """What is free of one memory now, and what of that is promised, to whom."""

    free_bytes: int | Missing
    promised_bytes: int = 0
    promised_to: tuple[str, ...] = ()

    @property
    def left_bytes(self) -> int | Missing:
        """What nobody holds and nobody was promised; below 0 where too much was."""
        return (
            self.free_bytes if isinstance(self.free_bytes, Missing) else self.free_bytes - self.promised_bytes
        )

    def lacks(self, need_bytes: int) -> bool:
        """Say whether there is not known to be room for this: what cannot be read admits nothing."""
        left = self.left_bytes
        return isinstance(left, Missing) or left < need_bytes

    def in_words(self) -> str:
        """Say what is free, and what of it is promised to whom."""
        if isinstance(self.free_bytes, Missing):
            return f"what is free cannot be read: {self.free_bytes.why}"
        free = f"{format_size(max(self.free_bytes, 0))} free"
        if not self.promised_bytes:
            return free
        return f"{free}, of it {format_size(self.promised_bytes)} promised to {', '.join(self.promised_to)}"


def host_room(scratch: Scratch, asking: WorkerMemory) -> Room:
    """Return the room above `host.critical_available`, with what of it is promised to others."""
    available = effective_available(scratch.snapshot.host)
    free = (
        available
        if isinstance(available, Missing)
        else available - scratch.plan.host.critical_available_bytes
    )
    return _promised(scratch, HOST, free, asking)


def gpu_room(scratch: Scratch, sample: GpuSample, asking: WorkerMemory) -> Room:
    """Return the room on one GPU that has memory of its own."""
    total, used = sample.memory_total_bytes, sample.memory_used_bytes
    if isinstance(total, Missing):
        return Room(total)
    if isinstance(used, Missing):
        return Room(used)
    return _promised(scratch, sample.uuid, total - used, asking)


def host_need(scratch: Scratch, need: Need, gpus: tuple[str, ...]) -> int | None:
    """Return what a worker takes of the machine's memory, also later; on unified GPUs, theirs too."""
    unified = [uuid for uuid in gpus if uuid in scratch.samples and scratch.samples[uuid].unified]
    parts = [need.memory_bytes, *(need.on(uuid, len(gpus)) for uuid in unified)]
    known = [part for part in parts if part is not None]
    return sum(known) + need.later_bytes if known else None


def _promised(scratch: Scratch, where: str, free: int | Missing, asking: WorkerMemory) -> Room:
    plan = scratch.plan.workers.get(asking.name)
    rank = 0 if plan is None else plan.priority
    others = [
        one
        for one in _ledger(scratch).get(where, ())
        if one.worker != asking.name and (one.priority is None or rank <= one.priority)
    ]
    return Room(free, sum(one.size_bytes for one in others), tuple(one.worker for one in others))


def _ledger(scratch: Scratch) -> Mapping[str, Sequence[Promise]]:
    """Return every promise by the memory that it is on; written once, and anew after each launch."""
    if scratch.ledger is None:
        ledger: dict[str, list[Promise]] = {}
        for worker in scratch.workers.values():
            for where, promise in _promises(scratch, worker):
                if promise.size_bytes > 0:
                    ledger.setdefault(where, []).append(promise)
        scratch.ledger = ledger
    return scratch.ledger


def _promises(scratch: Scratch, worker: WorkerMemory) -> Iterator[tuple[str, Promise]]:
    life, plan = worker.life, scratch.plan.workers.get(worker.name)
    if life is not None and worker.phase in _COMING_UP and settling(life, scratch.now_s):
        need = need_of(worker, life.plan)
        for where in (HOST, *life.gpus):
            yield where, Promise(worker.name, _outstanding(scratch, where, worker, life, need))
    elif life is not None and worker.phase is Phase.READY and _grows(life):
        need = need_of(worker, life.plan)
        outstanding = _outstanding(scratch, HOST, worker, life, need)
        yield HOST, Promise(worker.name, min(outstanding, need.later_bytes))
    elif plan is not None and worker.phase is Phase.WAITING and worker.retry_s > scratch.now_s:
        # It had this before, and shall find it again after its backoff. GPUs that are chosen anew at each
        # start are not kept.
        need, gpus = need_of(worker, plan), pinned(scratch, plan)
        yield HOST, Promise(worker.name, host_need(scratch, need, gpus) or 0, plan.priority)
        for uuid in gpus:
            yield uuid, Promise(worker.name, need.on(uuid, len(gpus)) or 0, plan.priority)


def _grows(life: Life) -> bool:
    """Say whether a life has a prompt cache that it may still fill."""
    return life.fit is not None and life.fit.promised_cache_bytes > 0


def _outstanding(scratch: Scratch, where: str, worker: WorkerMemory, life: Life, need: Need) -> int:
    """Return what a worker needs and has not taken yet.

    What cannot be seen of one that is ready counts as taken: in some places there is no way to see it, ever,
    and what is used includes it. Of one that starts, or was not looked at yet, it counts as not taken.
    """
    wanted = host_need(scratch, need, life.gpus) if where == HOST else need.on(where, len(life.gpus))
    if wanted is None:
        return 0
    seen = scratch.sighting(worker)
    taken = NOT_READ_YET if seen is None else _taken(seen, where)
    if isinstance(taken, Missing):
        return wanted if worker.phase is Phase.STARTING or taken == NOT_READ_YET else 0
    return max(0, wanted - taken)


def _taken(seen: Sighting, where: str) -> int | Missing:
    if where == HOST:
        return seen.memory_bytes
    return seen.vram_bytes if isinstance(seen.vram_bytes, Missing) else seen.vram_by_gpu.get(where, 0)


def pinned(scratch: Scratch, plan: WorkerPlan) -> tuple[str, ...]:
    """Return the UUIDs of the GPUs that a worker's plan lists, those that are there."""
    return tuple(
        one.uuid
        for wish in plan.gpus.listed
        for one in scratch.snapshot.gpus
        if wish in {one.index, one.uuid}
    )
