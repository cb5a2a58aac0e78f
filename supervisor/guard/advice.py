"""What a worker can do without, and what it is told to."""

from typing import NamedTuple

from supervisor.guard.pressure import Pressure


class Steps(NamedTuple):
    """What a model can make do with; the stages named in `never` are never turned off."""

    batch_size: int = 1
    input_size: tuple[int, int] = (640, 640)
    stages: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    fallback_after: int = 3
    """Out-of-memory events until the CPU is advised."""


class Advice(NamedTuple):
    """What to make do with; None leaves a size as it is."""

    clear_cache: bool = False
    batch_size: int | None = None
    input_size: tuple[int, int] | None = None
    cpu_fallback: bool = False
    stages_off: tuple[str, ...] = ()


def further(advice: Advice, level: Pressure, steps: Steps) -> Advice:
    """Return `advice` and what `level` adds to it; nothing that was advised is taken back."""
    if level is Pressure.NORMAL:
        return advice
    advice = advice._replace(clear_cache=True)
    if level is Pressure.HIGH:
        return advice
    advice = advice._replace(batch_size=steps.batch_size)
    if level is Pressure.CRITICAL:
        return advice
    stages_off = tuple(stage for stage in steps.stages if stage not in steps.never)
    return advice._replace(input_size=steps.input_size, stages_off=stages_off)
