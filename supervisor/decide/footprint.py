"""What a worker takes to come up and at most, learned from its lives."""

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from supervisor.decide import caps
from supervisor.model.memory import Footprint, Learned, Life, Stop
from supervisor.model.phase import Cause
from supervisor.model.plan import Setting, WorkerPlan
from supervisor.model.reading import Missing
from supervisor.model.snapshot import Sighting

# A server that is ready has loaded its weights and its cache; its first requests take buffers still.
STEADY_AFTER_READY_S: Final = 30.0
# One odd life is outweighed by the next, and a change of the workload is learned within as many.
LIVES: Final = 3
FOR_MEMORY: Final = frozenset(
    {
        *(Cause.MEMORY_CAP, Cause.VRAM_CAP, Cause.HOST_MEMORY, Cause.GPU_MEMORY),
        *(Cause.HOST_OOM, Cause.HOST_OOM_KILL, Cause.VRAM_OOM),
    }
)


def grown(life: Life, seen: Sighting) -> Footprint:
    """Return the life's footprint with what is seen of it now; what could not be read adds nothing."""
    past = life.footprint
    coming_up = settling(life, seen.read_s)
    memory = None if isinstance(seen.memory_bytes, Missing) else seen.memory_bytes
    vram: Mapping[str, int] = {} if isinstance(seen.vram_bytes, Missing) else seen.vram_by_gpu
    found = Footprint(
        memory_steady_bytes=_larger(past.memory_steady_bytes, memory if coming_up else None),
        memory_peak_bytes=_larger(past.memory_peak_bytes, memory),
        vram_steady_bytes=_largest(past.vram_steady_bytes, vram if coming_up else {}),
        vram_peak_bytes=_largest(past.vram_peak_bytes, vram),
    )
    return past if found == past else found


def settling(life: Life, at_s: float) -> bool:
    """Say whether a life still takes what it needs to come up, at this time."""
    ready = life.ready_s is not None and at_s > life.ready_s + STEADY_AFTER_READY_S
    return not (ready and caps.warm(life, at_s))


def learn(learned: Learned, life: Life, begun: Stop) -> Learned:
    """Return what is known once a life is over.

    One that never was ready has not shown what it takes, and one that was ended for its memory while it came
    up has shown too much.
    """
    if life.ready_s is None or life.footprint == Footprint():
        return learned
    if begun.cause in FOR_MEMORY and settling(life, begun.began_s):
        return learned
    before = known_lives(learned, life.plan, life.settings)
    return Learned(life.plan.command, life.settings, (*before, life.footprint)[-LIVES:])


def known_lives(learned: Learned, plan: WorkerPlan, settings: Mapping[str, Setting]) -> tuple[Footprint, ...]:
    """Return the footprints of earlier lives, if those ran the same with the same settings."""
    same = learned.command == plan.command and learned.settings == settings
    return learned.lives if same else ()


def with_footprint(life: Life, seen: Sighting) -> Life:
    """Return the life with its footprint grown by what is seen."""
    found = grown(life, seen)
    return life if found is life.footprint else replace(life, footprint=found)


def _larger(past: int | None, now: int | None) -> int | None:
    return past if now is None else now if past is None else max(past, now)


def _largest(past: Mapping[str, int], now: Mapping[str, int]) -> Mapping[str, int]:
    larger = {uuid: size for uuid, size in now.items() if size > past.get(uuid, 0)}
    return {**past, **larger} if larger else past
