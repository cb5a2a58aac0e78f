"""What each GPU tells: whether it can be trusted, how full it is, and whether somebody on it has to go."""

from typing import Final

from msgspec.structs import replace

from supervisor.decide.lifecycle import GOING
from supervisor.decide.pressure import gpu_level
from supervisor.decide.reclaim import residual_bytes
from supervisor.decide.scratch import Scratch
from supervisor.decide.starting import in_the_way
from supervisor.decide.stopping import Order, stop
from supervisor.decide.victims import Candidate, choose, why_chosen
from supervisor.model.action import Notice
from supervisor.model.memory import After, GpuMemory
from supervisor.model.phase import Cause, GpuState, Phase, Pressure
from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuSample

# A GPU is hot until it is this much below the limit, and near its power limit until it was this much below
# for so long: its draw falls between two batches. Workers shall not be told the opposite with each look.
COOLER_C: Final = 3.0
LESS_POWER: Final = 0.05
LESS_POWER_S: Final = 10.0

FAULTS: Final = {
    GpuState.LOST: "it is lost (fell off the bus)",
    GpuState.HUNG: "its driver does not answer",
    GpuState.MISMATCH: "its driver was upgraded underneath the running one; a reboot mends it",
    GpuState.FAILED: "it answers errors",
}


def watch_gpus(scratch: Scratch) -> None:
    """Judge every GPU that was seen."""
    for sample in scratch.snapshot.gpus:
        past = scratch.gpus.get(sample.uuid, GpuMemory())
        now = _trust(scratch, sample, past)
        now = _heat(scratch, sample, _level(scratch, sample, now))
        now = _power(scratch, sample, now)
        if now is not past:
            scratch.gpus[sample.uuid] = now
        if scratch.plan.gpu.restart_above is not None:
            _relieve(scratch, sample)


def _trust(scratch: Scratch, sample: GpuSample, past: GpuMemory) -> GpuMemory:
    fault = _fault(sample)
    if fault is not None:
        if past.quarantine is None:
            scratch.tell(
                Notice(
                    "error",
                    "gpu quarantined",
                    f"{fault}: nothing is started or restarted on it until it recovers",
                    gpu=sample.uuid,
                    cause=Cause.GPU_FAULT,
                )
            )
        # A quarantine until a reset keeps its reason: that of what has happened, not of what follows from it.
        stays = past.quarantine == fault or (past.until_reset and past.quarantine is not None)
        return past if stays else replace(past, quarantine=fault)
    if past.quarantine is None or not _recovered(sample, past):
        return past
    scratch.tell(Notice("info", "gpu recovered", f"it was quarantined: {past.quarantine}", gpu=sample.uuid))
    return replace(past, quarantine=None, residual_limit_bytes=None)


def _fault(sample: GpuSample) -> str | None:
    if sample.state is GpuState.OK:
        return None
    return FAULTS[sample.state] + (f" ({sample.fault})" if sample.fault else "")


def _recovered(sample: GpuSample, past: GpuMemory) -> bool:
    if past.until_reset or past.residual_limit_bytes is None:
        return not past.until_reset
    now = residual_bytes(sample)
    return not isinstance(now, Missing) and now <= past.residual_limit_bytes


def used_share(sample: GpuSample) -> float | None:
    """Return the used share of a GPU's memory, or None where it is not known."""
    total, used = sample.memory_total_bytes, sample.memory_used_bytes
    if isinstance(total, Missing) or isinstance(used, Missing) or total <= 0:
        return None
    return used / total


def _level(scratch: Scratch, sample: GpuSample, past: GpuMemory) -> GpuMemory:
    share = used_share(sample)
    if share is None or sample.state is not GpuState.OK:
        return replace(past, known=False) if past.known else past
    if not past.known:
        past = replace(past, known=True)
    level = gpu_level(scratch.plan.gpu.levels, share, past.pressure)
    if level is not past.pressure:
        mild = level in {Pressure.NORMAL, Pressure.HIGH}
        scratch.tell(
            Notice(
                "info" if mild else "warning",
                f"gpu memory {level}",
                f"{share:.0%} of it is used",
                gpu=sample.uuid,
            )
        )
        past = replace(past, pressure=level)
    return _above(scratch, sample, share, past)


def _above(scratch: Scratch, sample: GpuSample, share: float, past: GpuMemory) -> GpuMemory:
    limit = scratch.plan.gpu.restart_above
    if limit is None or share <= limit:
        return past if past.above_since_s is None else replace(past, above_since_s=None)
    return past if past.above_since_s is not None else replace(past, above_since_s=sample.read_s)


def _heat(scratch: Scratch, sample: GpuSample, past: GpuMemory) -> GpuMemory:
    celsius, limit = sample.temperature_c, scratch.plan.gpu.hot_above_c
    if isinstance(celsius, Missing) or (celsius > limit - (COOLER_C if past.hot else 0.0)) is past.hot:
        return past
    event = "gpu cool again" if past.hot else "gpu hot"
    text = f"{celsius:.0f} degrees C, the limit is {limit:.0f}"
    scratch.tell(Notice("info" if past.hot else "warning", event, text, gpu=sample.uuid))
    return replace(past, hot=not past.hot)


def _power(scratch: Scratch, sample: GpuSample, past: GpuMemory) -> GpuMemory:
    """Remember when a GPU was last near its power limit."""
    watts, limit, near = sample.power_w, sample.power_limit_w, scratch.plan.gpu.power_near
    if isinstance(watts, Missing) or isinstance(limit, Missing) or limit <= 0:
        return past
    last_s = past.near_power_s
    if watts / limit > (near if last_s is None else near - LESS_POWER):
        return past if last_s == sample.read_s else replace(past, near_power_s=sample.read_s)
    if last_s is None or sample.read_s - last_s < LESS_POWER_S:
        return past
    return replace(past, near_power_s=None)


def _relieve(scratch: Scratch, sample: GpuSample) -> None:
    past = scratch.gpus.get(sample.uuid)
    share, limit = used_share(sample), scratch.plan.gpu.restart_above
    if past is None or past.quarantine is not None or past.above_since_s is None:
        return
    if share is None or limit is None or share <= limit:
        return
    if past.victim is not None:
        past = _after_victim(scratch, sample, past)
    # Both times are of readings: what was not read again has not lasted.
    lasted_s = 0.0 if past.above_since_s is None else sample.read_s - past.above_since_s
    if past.victim is not None or lasted_s < scratch.plan.gpu.restart_for_s or past.above_since_s is None:
        return
    victim = choose(_candidates(scratch, sample.uuid))
    if victim is None:
        return
    reason = f"GPU {sample.index} has been {share:.0%} full for {lasted_s:.0f} s; {why_chosen(victim)}"
    scratch.gpus[sample.uuid] = replace(past, victim=victim.name)
    order = Order(Cause.GPU_MEMORY, reason, After.RESTART, counts=True)
    stop(scratch, scratch.workers[victim.name], order)


def _after_victim(scratch: Scratch, sample: GpuSample, past: GpuMemory) -> GpuMemory:
    """Let go of the last victim once it runs again or rests, and measure anew from there."""
    worker = scratch.workers.get(past.victim or "")
    if worker is not None and (worker.phase in GOING or worker.phase in {Phase.WAITING, Phase.STARTING}):
        return past
    past = replace(past, victim=None, above_since_s=sample.read_s)
    scratch.gpus[sample.uuid] = past
    return past


def _candidates(scratch: Scratch, uuid: str) -> list[Candidate]:
    found: list[Candidate] = []
    for worker, life in scratch.living():
        seen = scratch.sighting(worker)
        held = 0 if seen is None else seen.vram_by_gpu.get(uuid, 0)
        if worker.phase is not Phase.READY or held <= 0 or in_the_way(scratch, worker, life) is not None:
            continue
        cap = life.plan.vram_cap_bytes
        over = cap is not None and held > cap
        found.append(
            Candidate(worker.name, held, over, life.plan.priority, idle=False, launched_s=life.launched_s)
        )
    return found
