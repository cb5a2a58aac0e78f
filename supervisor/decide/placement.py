"""Which GPUs a worker gets, and whether there is room for it."""

from collections.abc import Sequence

from supervisor.decide.ledger import gpu_room, host_need, host_room
from supervisor.decide.lifecycle import MOVING_MEMORY
from supervisor.decide.needs import Need, awaited
from supervisor.decide.scratch import Scratch
from supervisor.model.memory import WorkerMemory
from supervisor.model.plan import WorkerPlan
from supervisor.model.quantity import format_size
from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuSample


def choose_gpus(scratch: Scratch, worker: WorkerMemory, plan: WorkerPlan) -> tuple[str, ...] | str | None:
    """Return the UUIDs that a worker gets, None where it may see all, or in words why it cannot have them."""
    choice = plan.gpus
    if choice.kind == "any":
        return None
    if choice.kind == "none":
        return ()
    if choice.kind == "auto":
        return _by_room(scratch, worker, plan)
    found: list[str] = []
    for wish in choice.listed:
        match = [one.uuid for one in scratch.snapshot.gpus if wish in {one.index, one.uuid}]
        if not match:
            unread = not scratch.snapshot.gpus and scratch.snapshot.gpu_missing is None
            why = "GPUs are not read yet" if unread else scratch.snapshot.gpu_missing
            return f"GPU {wish}, which is not there" + because(why)
        found.append(match[0])
    return tuple(found)


def because(why: str | None) -> str:
    """Return the reason as the end of a sentence, if there is one."""
    return f": {why}" if why else ""


def no_room(scratch: Scratch, worker: WorkerMemory, plan: WorkerPlan, gpus: tuple[str, ...]) -> str | None:
    """Say for how much of which memory a worker has to wait, or None where its need fits or is not known."""
    need = awaited(scratch, worker, plan)
    for uuid in gpus:
        sample, wanted = scratch.samples.get(uuid), need.on(uuid, len(gpus))
        if sample is None or wanted is None or sample.unified:
            continue
        room = gpu_room(scratch, sample, worker)
        if room.lacks(wanted):
            return f"{format_size(wanted)} on GPU {uuid}: {room.in_words()}{_never(sample, wanted)}"
    wanted = host_need(scratch, need, gpus)
    room = host_room(scratch, worker)
    if wanted is not None and room.lacks(wanted):
        later = f" ({format_size(need.later_bytes)} of it for its prompt cache)" if need.later_bytes else ""
        return f"{format_size(wanted)} of host memory{later}: {room.in_words()} above critical_available"
    return None


def _never(sample: GpuSample, wanted: int) -> str:
    total = sample.memory_total_bytes
    return f"; it has {format_size(total)} in all" if isinstance(total, int) and wanted > total else ""


def _by_room(scratch: Scratch, worker: WorkerMemory, plan: WorkerPlan) -> tuple[str, ...] | str:
    """Choose the fullest GPUs that have the room; where the need is not known, the emptiest.

    One on which another worker starts or stops comes last: its turn has to be waited for. Behind them come
    those on which it ran out of memory itself.
    """
    count, need = plan.gpus.count, awaited(scratch, worker, plan)
    usable = [one for one in scratch.snapshot.gpus if _usable(scratch, one)]
    rooms = {one.uuid: _left(scratch, one, worker) for one in usable}
    known = {uuid: left for uuid, left in rooms.items() if not isinstance(left, Missing)}
    if len(known) < count:
        why = because(scratch.snapshot.gpu_missing)
        return f"{count} usable GPUs, of which there are {len(known)}{why}"
    fitting = [uuid for uuid, left in known.items() if _fits(need, uuid, count, left)]
    if len(fitting) < count:
        return _too_full(need, known, count, len(fitting))
    busy = {uuid: scratch.busy_gpu((uuid,), MOVING_MEMORY, but="") is not None for uuid in fitting}
    best = 1 if need.vram_bytes is not None else -1
    spent = worker.starved_gpus  # where others took what it needed, or it took more than anybody knew
    order = {uuid: (uuid in spent, busy[uuid], best * known[uuid], uuid) for uuid in fitting}
    return tuple(sorted(fitting, key=order.__getitem__)[:count])


def _usable(scratch: Scratch, sample: GpuSample) -> bool:
    past = scratch.gpus.get(sample.uuid)
    return past is None or past.quarantine is None


def _left(scratch: Scratch, sample: GpuSample, worker: WorkerMemory) -> int | Missing:
    room = host_room(scratch, worker) if sample.unified else gpu_room(scratch, sample, worker)
    return room.left_bytes


def _fits(need: Need, uuid: str, count: int, left: int) -> bool:
    wanted = _chosen_need(need, uuid, count)
    return wanted is None or wanted <= left


def _chosen_need(need: Need, uuid: str, count: int) -> int | None:
    """Return what it takes on a GPU that it may not have had before: its largest share, on any."""
    return max(need.vram_by_gpu.values(), default=None) if need.vram_by_gpu else need.on(uuid, count)


def _too_full(need: Need, left: dict[str, int], count: int, fitting: int) -> str:
    wanted: Sequence[int] = [size for uuid in left if (size := _chosen_need(need, uuid, count)) is not None]
    most = format_size(max(0, *left.values())) if left else "nothing"
    what = (
        f"{count} GPUs with {format_size(max(wanted, default=0))} each"
        if count > 1
        else format_size(max(wanted))
    )
    where = f", of which there are {fitting}" if count > 1 else " on one GPU"
    return f"{what}{where}: the most that one has free and nobody was promised is {most}"
