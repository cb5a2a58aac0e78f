"""What a glance at the host's memory is for: whether a whole turn is worth it before its time."""

from typing import Final

from supervisor.decide.emergency import URGENT
from supervisor.decide.pressure import judge_host
from supervisor.model.memory import Memory
from supervisor.model.phase import Pressure
from supervisor.model.plan import Plan
from supervisor.model.reading import Missing
from supervisor.model.snapshot import HostSample

# Somebody took this much between two glances: whoever has a cap is read again at once. A worker that
# grows at 1 GB/s moves it within one glance, the noise of an idle machine does not.
MOVED_BYTES: Final = 64 << 20


def calls_for_a_turn(plan: Plan, memory: Memory, sample: HostSample) -> bool:
    """Say whether the host's memory is in an emergency, or its level has changed."""
    judged = judge_host(plan.host, sample, memory.host)
    return judged is not None and (judged.level in URGENT or judged.level is not memory.host.pressure)


def is_worth_a_closer_look(plan: Plan, memory: Memory, sample: HostSample) -> bool:
    """Say whether so little is left that all that is free has to be counted."""
    judged = judge_host(plan.host, sample, memory.host)
    return judged is not None and judged.level is not Pressure.NORMAL


def is_short(plan: Plan, memory: Memory, sample: HostSample) -> bool:
    """Say whether a victim may have to be chosen now, by what each worker holds now."""
    judged = judge_host(plan.host, sample, memory.host)
    return judged is not None and judged.level in URGENT


def memory_moved(before: HostSample, after: HostSample) -> bool:
    """Say whether somebody took memory between two glances."""
    had, has = before.memory_available_bytes, after.memory_available_bytes
    return not isinstance(had, Missing) and not isinstance(has, Missing) and had - has >= MOVED_BYTES
