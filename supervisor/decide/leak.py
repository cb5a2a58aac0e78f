"""When a worker leaks: how long it has to its cap, and whether it is restarted before."""

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from supervisor.decide import caps, trend
from supervisor.decide.scratch import Scratch
from supervisor.model.action import Notice
from supervisor.model.memory import Life, Pending, WorkerMemory
from supervisor.model.phase import Cause
from supervisor.model.quantity import format_size, format_span
from supervisor.model.reading import Missing
from supervisor.model.snapshot import Sighting
from supervisor.model.trend import Growth, Trend

# 30 s at the usual poll: longer than most requests, so a worker that is not always busy rests in it.
LOOKS_A_STRETCH: Final = 15
# A worker rests while it holds no more than this share of what load puts on top of its floor ...
RESTS_BELOW: Final = 0.25
# ... and no GPU of its own is busier than this. An idle server that polls its GPU shows a few percent.
RESTS_BELOW_PERCENT: Final = 20.0
# No moment of rest is waited for beyond this share of `leak.forecast`.
WAITS_UNTIL: Final = 0.5
HOUR_S: Final = 3600


class Forecast(Struct, frozen=True):
    """A series that heads for its cap."""

    what: str
    in_s: float
    cap_bytes: int
    growth: Growth
    trend: Trend

    @property
    def reason(self) -> str:
        """The rise and where it leads, in words."""
        least, most = (
            format_size(int(slope * HOUR_S)) for slope in (self.growth.slope_least, self.growth.slope_most)
        )
        return (
            f"{self.what} at rest grows by {format_size(int(self.growth.slope * HOUR_S))} an hour"
            f" ({least} to {most}), and reaches the cap of {format_size(self.cap_bytes)}"
            f" in {format_span(_roughly(self.in_s))}"
        )


def _roughly(span_s: float) -> int:
    """Round a forecast as far as it can be relied on: to minutes where there are ten of them."""
    return round(span_s / 60) * 60 if span_s >= 600 else round(span_s)  # noqa: PLR2004


def watch(life: Life, seen: Sighting, poll_interval_s: float) -> Life:
    """Return the life with what was read in its trends, once it is ready and warm.

    Without a cap there is nowhere to head for, and nothing is kept.
    """
    if life.ready_s is None:
        return life
    shortest_s, plan = LOOKS_A_STRETCH * poll_interval_s, life.plan
    memory, vram = life.memory_trend, life.vram_trend
    if plan.memory.cap_bytes is not None and caps.warm(life, seen.read_s):
        taken = trend.take(memory, seen.memory_bytes, seen.read_s, shortest_s)
        memory = _judged(memory, taken, plan.memory.cap_bytes, plan.leak_plateau_bytes)
    if plan.vram_cap_bytes is not None and caps.warm(life, seen.vram_read_s):
        taken = trend.take(vram, seen.vram_bytes, seen.vram_read_s, shortest_s)
        vram = _judged(vram, taken, plan.vram_cap_bytes, 0)
    if memory is life.memory_trend and vram is life.vram_trend:
        return life
    return replace(life, memory_trend=memory, vram_trend=vram)


def _judged(before: Trend, taken: Trend, cap_bytes: int, plateau_bytes: int) -> Trend:
    """Find the slope anew only where a stretch has ended: it takes 100 times as long as a reading."""
    if taken.floors is before.floors:
        return taken
    growth = trend.growth_of(taken.floors, cap_bytes, plateau_bytes)
    return taken if growth is taken.growth else replace(taken, growth=growth)


def forecast(life: Life, now_s: float) -> Forecast | None:
    """Return what reaches its cap first, memory or GPU memory; None where nothing heads for it.

    `in_s` is the time until the idle floor and the usual load on top of it reach the cap together.
    """
    if life.memory_trend.growth is None and life.vram_trend.growth is None:
        return None  # as good as always, and asked at each look
    series = (
        ("memory", life.memory_trend, life.plan.memory.cap_bytes),
        ("GPU memory", life.vram_trend, life.plan.vram_cap_bytes),
    )
    found = [
        Forecast(what, _in_s(one.growth, cap_bytes, now_s), cap_bytes, one.growth, one)
        for what, one, cap_bytes in series
        if one.growth is not None and cap_bytes is not None
    ]
    return min(found, key=lambda one: one.in_s, default=None)


def _in_s(growth: Growth, cap_bytes: int, now_s: float) -> float:
    room_bytes = cap_bytes - growth.swing_bytes - growth.level_bytes
    return max(0.0, room_bytes / growth.slope - (now_s - growth.at_s))


def tell(scratch: Scratch, worker: WorkerMemory) -> WorkerMemory:
    """Tell people that a worker leaks, once in a life."""
    life = worker.life
    if life is None or life.leak_told or (found := forecast(life, scratch.now_s)) is None:
        return worker
    growth = found.growth
    scratch.tell(
        Notice(
            "warning",
            "leak found",
            f"{found.reason}; {_what_follows(life, found, scratch.now_s)}",
            worker=worker.name,
            cause=Cause.LEAK,
            incident=f"{life.run}-leak",
            outcome="told",
            fields={
                "bytes_an_hour": int(growth.slope * HOUR_S),
                "forecast_s": round(found.in_s),
                "floor_bytes": growth.level_bytes,
                "seen_for_s": round(growth.at_s - growth.since_s),
            },
        )
    )
    return scratch.put(replace(worker, life=replace(life, leak_told=True)))


def _what_follows(life: Life, found: Forecast, now_s: float) -> str:
    within_s = life.plan.leak_forecast_s
    if within_s is None:
        return "the cap restarts it (leak.forecast restarts it before)"
    if now_s + found.in_s - life.launched_s <= within_s:
        return f"the cap restarts it: restarts before that were less than {format_span(within_s)} apart"
    return f"restarted at an idle moment in the last {format_span(within_s)}"


def due(scratch: Scratch, life: Life) -> Pending | None:
    """Return the restart of a leaking worker whose time has come, if it rests or can wait no longer.

    A life is never ended by a forecast before it is as old as `leak.forecast`: what leaks faster would be
    restarted all the time, and is left to its cap.
    """
    within_s, now_s = life.plan.leak_forecast_s, scratch.now_s
    if within_s is None or now_s - life.launched_s < within_s:
        return None
    found = forecast(life, now_s)
    if found is None or found.in_s > within_s:
        return None
    if now_s - found.trend.read_s > found.trend.width_s:  # nobody has seen it for long
        return None
    if found.in_s > within_s * WAITS_UNTIL and not _rests(scratch, life, found):
        return None
    return Pending(Cause.LEAK, found.reason)


def _rests(scratch: Scratch, life: Life, found: Forecast) -> bool:
    growth = found.growth
    floor_bytes = growth.level_bytes + growth.slope * (scratch.now_s - growth.at_s)
    if found.trend.last_bytes > floor_bytes + growth.swing_bytes * RESTS_BELOW:
        return False
    for uuid in life.gpus:
        sample = scratch.samples.get(uuid)
        busy = None if sample is None else sample.utilization_percent
        if busy is not None and not isinstance(busy, Missing) and busy > RESTS_BELOW_PERCENT:
            return False
    return True
