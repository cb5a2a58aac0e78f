"""One rung down after an out-of-memory death: of the ladder that is written, else of one that is reckoned."""

from msgspec import Struct
from msgspec.structs import replace

from supervisor.decide.ladder import Step, next_made, next_step
from supervisor.decide.scratch import Scratch
from supervisor.model.action import Notice
from supervisor.model.memory import Life, WorkerMemory
from supervisor.model.rungs import MadeRung


class Spent(Struct, frozen=True):
    """What a worker ran out of: a GPU's memory or the host's, and whether it had served until then."""

    device: bool
    served: bool


class Descent(Struct, frozen=True):
    """What follows, in words; `same`: it goes on with the settings that it died with, if at all."""

    words: str
    same: bool
    held: bool


def go_down(scratch: Scratch, worker: WorkerMemory, life: Life, spent: Spent) -> Descent:
    """Move a worker to the rung that follows, and tell of a smaller context."""
    step = None if life.plan.ladder else _made(scratch, worker, life, spent)
    if step is not None:
        is_same = step.rung == worker.rung
        if not is_same:
            _announce(scratch, worker, step.made[-1])
        scratch.put(replace(worker, rung=step.rung, made=step.made))
        return Descent(step.words, same=is_same, held=step.held)
    reached = max(worker.rung, life.rung)  # it may have been reset since it was launched
    step = next_step(replace(worker, rung=reached), life.plan, device=spent.device)
    scratch.put(replace(worker, rung=step.rung))
    return Descent(step.words, same=step.rung == reached, held=step.held)


def starved_gpus(worker: WorkerMemory, life: Life, *, device: bool) -> tuple[str, ...]:
    """Return the GPUs on which a worker ran out of memory, the last one too."""
    return tuple(dict.fromkeys((*worker.starved_gpus, *(life.gpus if device else ()))))


def _made(scratch: Scratch, worker: WorkerMemory, life: Life, spent: Spent) -> Step | None:
    """Return the rung that was reckoned before this life began, for what ran out."""
    asked = worker.reckoning
    if asked is None or not asked.fits or asked.lives != worker.lives - 1:
        again = "it was not reckoned this time, so it goes on with the same settings"
        return Step(worker.rung, again, made=worker.made) if worker.made else None
    rungs = asked.rungs
    gpus = [scratch.samples[uuid] for uuid in life.gpus or scratch.samples if uuid in scratch.samples]
    if any(one.unified for one in gpus) and life.fit is not None and life.fit.vram_bytes:
        offered = rungs.shared
    elif spent.device:
        offered = rungs.device
    elif spent.served:
        offered = rungs.serving or rungs.loading
    else:
        offered = rungs.loading or rungs.serving
    return next_made(worker, life, offered, rungs.cpu if spent.device else None)


def _announce(scratch: Scratch, worker: WorkerMemory, made: MadeRung) -> None:
    """Tell of a smaller context: whoever sends longer requests notices."""
    before, now = made.slot_ctx
    if now < before:
        why = f"requests of more than {now} tokens are refused from now on; {before} were taken before"
        fields = {"ctx_before": before, "ctx": now}
        scratch.tell(Notice("warning", "context made smaller", why, worker=worker.name, fields=fields))
