"""How hard memory presses: levels of the host and of each GPU, with hysteresis."""

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from supervisor.model.headroom import effective_available
from supervisor.model.memory import HostMemory
from supervisor.model.phase import Pressure
from supervisor.model.plan import GpuLevels, HostPlan
from supervisor.model.quantity import format_size
from supervisor.model.reading import Missing
from supervisor.model.snapshot import HostSample

ORDER: Final = (Pressure.NORMAL, Pressure.HIGH, Pressure.CRITICAL, Pressure.EXTREME)
# The host's warning ends this much above the floor at which it began.
RECOVERED: Final = 1.05
# PSI is believed where there is swap, or where reclaim was at work this recently: without either,
# "full" also counts stalls that killing does not cure (systemd-oomd, nohang#31).
RECLAIM_IS_RECENT_S: Final = 10.0


class HostJudgement(Struct, frozen=True):
    """The host's level, and what it was judged by."""

    level: Pressure
    reason: str
    by_stall: bool = False


def judge_host(plan: HostPlan, sample: HostSample, past: HostMemory) -> HostJudgement | None:
    """Return how the host's memory stands, or None where its memory could not be read."""
    available = effective_available(sample)
    total = sample.memory_total_bytes
    if isinstance(available, Missing) or isinstance(total, Missing):
        return None
    floor = plan.critical_available_bytes
    text = f"{format_size(available)} of {format_size(total)} available"
    if available < floor // 2:
        return HostJudgement(
            Pressure.EXTREME, f"{text}, below half of critical_available {format_size(floor)}"
        )
    if available < floor:
        return HostJudgement(Pressure.CRITICAL, f"{text}, below critical_available {format_size(floor)}")
    if plan.max_used is not None and total - available > plan.max_used * total:
        return HostJudgement(Pressure.CRITICAL, f"{text}, more than max_used {plan.max_used:.0%} used")
    if (stalled := _stalled(plan, sample, past)) is not None:
        return HostJudgement(Pressure.CRITICAL, f"{text}, {stalled}", by_stall=True)
    warn = plan.warn_available_bytes
    if available < (warn if past.pressure is Pressure.NORMAL else warn * RECOVERED):
        return HostJudgement(Pressure.HIGH, f"{text}, below warn_available {format_size(warn)}")
    return HostJudgement(Pressure.NORMAL, text)


def _stalled(plan: HostPlan, sample: HostSample, past: HostMemory) -> str | None:
    rule = plan.pressure
    if rule is None or past.stalled_since_s is None or not _reclaims(sample, past):
        return None
    if isinstance(sample.psi_full_avg10, Missing):
        return None  # it stalled when it was last read; nobody knows whether it does
    lasted_s = sample.read_s - past.stalled_since_s
    if lasted_s < rule.for_s:
        return None
    return f"memory stalls (PSI full avg10) at or above {rule.full:.0%} for {lasted_s:.0f} s"


def _reclaims(sample: HostSample, past: HostMemory) -> bool:
    swap = sample.swap_total_bytes
    if not isinstance(swap, Missing) and swap > 0:
        return True
    return past.scanned_s is not None and sample.read_s - past.scanned_s <= RECLAIM_IS_RECENT_S


def watch_stalls(plan: HostPlan, sample: HostSample, past: HostMemory) -> HostMemory:
    """Remember since when the host stalls and when reclaim was last at work."""
    since, scanned, scanned_s = past.stalled_since_s, past.scanned, past.scanned_s
    full = sample.psi_full_avg10
    if plan.pressure is None:
        since = None
    elif not isinstance(full, Missing):
        since = None if full < plan.pressure.full * 100 else (since if since is not None else sample.read_s)
    pages = sample.pages_scanned
    if not isinstance(pages, Missing):
        if scanned is not None and pages > scanned:
            scanned_s = sample.read_s
        scanned = pages
    if (since, scanned, scanned_s) == (past.stalled_since_s, past.scanned, past.scanned_s):
        return past
    return replace(past, stalled_since_s=since, scanned=scanned, scanned_s=scanned_s)


def gpu_level(levels: GpuLevels, used: float, past: Pressure) -> Pressure:
    """Return the level of a GPU whose used share is `used`; downward it changes `hysteresis` later."""
    floors = (0.0, levels.high, levels.critical, levels.extreme)
    reached = max(at for at, floor in enumerate(floors) if used >= floor)
    before = ORDER.index(past)
    if reached >= before:
        return ORDER[reached]
    kept = max((at for at in range(reached, before + 1) if used >= floors[at] - levels.hysteresis), default=0)
    return ORDER[max(kept, reached)]
