"""What a worker needs to come up: what is written, else what was reckoned, else what its last lives took."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from supervisor.decide.footprint import known_lives
from supervisor.decide.ladder import plan_on
from supervisor.decide.scratch import Scratch
from supervisor.model.fit import Fit
from supervisor.model.memory import Footprint, WorkerMemory
from supervisor.model.plan import WorkerPlan

# Long enough for another worker's restart with all its deadlines, short beside an outage.
PATIENCE_S: Final = 300.0


class Need(Struct, frozen=True):
    """Bytes that a worker takes to come up; None where nobody knows yet, which keeps it from nothing.

    `later_bytes` of the host's memory it takes once it serves: a prompt cache that was asked for.
    """

    memory_bytes: int | None = None
    vram_bytes: int | None = None  # over all its GPUs
    vram_by_gpu: Mapping[str, int] = {}  # where it is known for each
    later_bytes: int = 0

    def on(self, uuid: str, count: int) -> int | None:
        """Return the bytes on one of `count` GPUs: what it took there, else an even share."""
        if uuid in self.vram_by_gpu:
            return self.vram_by_gpu[uuid]
        return None if self.vram_bytes is None else -(-self.vram_bytes // max(count, 1))


def need_of(worker: WorkerMemory, plan: WorkerPlan) -> Need:
    """Return what a worker needs: declared for each kind of memory where it is, else reckoned, else learned.

    Learned is the most that one of its last lives took until it had warmed up, and no more than its cap:
    beyond that a life is restarted, so that no start depends on it. What it took later, at its peak, is
    not waited for: allocators keep what they once had, and a worker that has filled its GPU once would
    never start beside anything again.
    """
    known = _known(worker, plan)
    lives = known_lives(worker.learned, plan, plan_on(worker, plan).settings)
    memory = known.memory_bytes
    if memory is None:
        memory = _capped(_most(lives), plan.memory.cap_bytes)
    if known.vram_bytes is not None:
        return replace(known, memory_bytes=memory)
    largest = max(lives, key=_vram, default=None)
    if largest is None or not largest.vram_steady_bytes:
        return replace(known, memory_bytes=memory)
    by_gpu = largest.vram_steady_bytes
    return Need(memory, _capped(_vram(largest), plan.vram_cap_bytes), by_gpu, known.later_bytes)


def awaited(scratch: Scratch, worker: WorkerMemory, plan: WorkerPlan) -> Need:
    """Return the need that a worker waits for: what is only learned counts for `PATIENCE_S`.

    A life that leaked while it came up would else keep the next one from ever starting.
    """
    free_s = max(worker.since_s, worker.retry_s)
    if scratch.now_s < free_s + PATIENCE_S:
        return need_of(worker, plan)
    return _known(worker, plan)


def key_of(plan: WorkerPlan) -> str:
    """Return what a reckoning is good for: what is started, with which settings, on what."""
    started = (
        *(plan.command, plan.environment, plan.environment_file),
        *(plan.directory, plan.gpus, plan.settings),
    )
    return blake2b(msgspec.json.encode(started), digest_size=8).hexdigest()


def reckoned_fit(worker: WorkerMemory, plan: WorkerPlan) -> Fit | None:
    """Return what a worker's life was reckoned to need, or its next one, where nothing is to be chosen."""
    if worker.life is not None:
        return worker.life.fit
    past = worker.reckoning
    if past is None or len(past.fits) != 1 or past.key != key_of(plan_on(worker, plan)):
        return None
    return past.fits[0]


def known_fit(worker: WorkerMemory, plan: WorkerPlan) -> Fit | None:
    """Return what was reckoned for a worker, which a guess at what fits is not."""
    fit = reckoned_fit(worker, plan)
    return None if fit is None or fit.assumed is not None else fit


def _known(worker: WorkerMemory, plan: WorkerPlan) -> Need:
    """Return what is declared, else reckoned."""
    declared, fit = plan.needs, known_fit(worker, plan)
    if fit is None:
        return Need(declared.memory_bytes, declared.vram_bytes)
    memory, later = declared.memory_bytes, 0
    if memory is None and fit.memory_bytes is not None:
        memory, cap = fit.memory_bytes, plan.memory.cap_bytes
        later = (
            fit.promised_cache_bytes if cap is None else max(0, min(fit.promised_cache_bytes, cap - memory))
        )
    # A server without a layer on a GPU may take some of one that it sees; how much, lives tell.
    if declared.vram_bytes is not None or not fit.vram_bytes:
        return Need(memory, declared.vram_bytes, later_bytes=later)
    gpus = worker.life.gpus if worker.life is not None else worker.reckoning.gpus if worker.reckoning else ()
    return Need(memory, sum(fit.vram_bytes), dict(zip(gpus, fit.vram_bytes, strict=False)), later)


def _most(lives: tuple[Footprint, ...]) -> int | None:
    known = [one.memory_steady_bytes for one in lives if one.memory_steady_bytes is not None]
    return max(known, default=None)


def _vram(one: Footprint) -> int:
    return sum(one.vram_steady_bytes.values())


def _capped(size: int | None, cap: int | None) -> int | None:
    return size if size is None or cap is None else min(size, cap)
