"""Weights that are mapped: the kernel may drop their pages, and the server reads them from disk again."""

from supervisor.decide.ledger import host_room
from supervisor.decide.scratch import Scratch
from supervisor.model.action import Notice
from supervisor.model.fit import Fit
from supervisor.model.memory import WorkerMemory
from supervisor.model.plan import WorkerPlan
from supervisor.model.quantity import format_size
from supervisor.model.reading import Missing


def tell_of_weights(scratch: Scratch, worker: WorkerMemory, plan: WorkerPlan, fit: Fit | None) -> None:
    """Tell of a server that starts with more weights in RAM than there is room for.

    It is not kept back: a model may be larger than memory on purpose, and how slow that is the disk decides.
    Available memory includes the pages of other models, which their servers need as much; replicas share
    theirs.
    """
    if fit is None or not fit.mapped_bytes or fit.memory_bytes is None:
        return
    left = host_room(scratch, worker).left_bytes
    if isinstance(left, Missing):
        return
    others = _others(scratch, plan)
    room = max(0, left - fit.memory_bytes - fit.promised_cache_bytes - others)
    if fit.mapped_bytes <= room:
        return
    beside = f" beside {format_size(others)} of other models" if others else ""
    mapped = format_size(fit.mapped_bytes)
    why = f"{mapped} of its weights are mapped, and there is room for {format_size(room)}{beside}"
    why += ": the rest is read from disk again and again"
    fields = {"mapped_bytes": fit.mapped_bytes, "room_bytes": room}
    scratch.tell(Notice("warning", "weights do not fit", why, worker=worker.name, fields=fields))


def _others(scratch: Scratch, plan: WorkerPlan) -> int:
    """Return what servers of other models have mapped."""
    sizes: dict[str, int] = {}
    for _, life in scratch.living():
        if life.fit is not None and life.plan.base != plan.base:
            sizes[life.plan.base] = max(sizes.get(life.plan.base, 0), life.fit.mapped_bytes)
    return sum(sizes.values())
