"""The state of everything as it is shown; pure, from the values of one turn."""

from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from supervisor.daemon.history_samples import swap_used_bytes
from supervisor.decide.ladder import plan_on
from supervisor.decide.leak import forecast
from supervisor.decide.needs import known_fit, need_of
from supervisor.model.headroom import gpu_memory
from supervisor.model.memory import GpuMemory, Life, Memory, WorkerMemory
from supervisor.model.phase import Phase
from supervisor.model.plan import Plan, WorkerPlan
from supervisor.model.reading import NOT_READ_YET, Missing, known
from supervisor.model.snapshot import GpuSample, HostSample, Sighting, Snapshot
from supervisor.model.status import (
    GpuStatus,
    HostStatus,
    LastRestartStatus,
    ReportedStatus,
    SelfStatus,
    Status,
    WorkerStatus,
    XidStatus,
)

_ALIVE: Final = frozenset({Phase.STARTING, Phase.READY, Phase.DRAINING, Phase.STOPPING, Phase.KILLING})
_AGEING: Final = frozenset({Phase.STARTING, Phase.READY})  # the others are on their way out already


class StatusContext(Struct, frozen=True):
    """What is shown of the daemon itself."""

    version: str
    launcher: str
    started_s: float  # monotonic
    config: str = ""
    config_refused: str | None = None
    dry_run: bool = False
    history: str = "ok"
    kernel_log_missing: Missing | None = None
    supervisor: SelfStatus | None = None


def status_of(context: StatusContext, plan: Plan, memory: Memory, snapshot: Snapshot) -> Status:
    """Put together the document of `gpu-supervisor status --json`.

    Workers come in the order of the plan, then those that are no longer in it.
    """
    leaving = tuple(name for name in memory.workers if name not in plan.workers)
    return Status(
        version=context.version,
        launcher=context.launcher,
        taken_at=utc_text(snapshot.wall_s),
        uptime_s=round(snapshot.taken_s - context.started_s, 3),
        host=_host(memory, snapshot.host),
        gpus=tuple(
            _gpu(gpu, memory.gpus.get(gpu.uuid, GpuMemory()), context, snapshot) for gpu in snapshot.gpus
        ),
        workers=tuple(
            _worker(memory.workers.get(name, WorkerMemory(name)), plan.workers.get(name), context, snapshot)
            for name in (*plan.workers, *leaving)
        ),
        config=context.config,
        config_refused=context.config_refused,
        gpu_missing=snapshot.gpu_missing,
        dry_run=context.dry_run,
        history=context.history,
        supervisor=context.supervisor,
    )


def utc_text(wall_s: float) -> str:
    """Write a Unix time as ISO 8601 in UTC, to the millisecond: `2026-11-21T02:37:08.000Z`."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _host(memory: Memory, host: HostSample) -> HostStatus:
    missing = _missing(
        memory_total_bytes=host.memory_total_bytes,
        memory_available_bytes=host.memory_available_bytes,
        swap_used_bytes=host.swap_total_bytes
        if isinstance(host.swap_total_bytes, Missing)
        else host.swap_free_bytes,
        psi_full_avg10=host.psi_full_avg10,
    )
    return HostStatus(
        memory_total_bytes=known(host.memory_total_bytes),
        memory_available_bytes=known(host.memory_available_bytes),
        swap_used_bytes=swap_used_bytes(host),
        pressure=memory.host.pressure.value,
        psi_full_avg10=known(host.psi_full_avg10),
        missing=missing,
    )


def _gpu(gpu: GpuSample, remembered: GpuMemory, context: StatusContext, snapshot: Snapshot) -> GpuStatus:
    xids = context.kernel_log_missing or remembered.xids
    total_bytes, used_bytes = gpu_memory(gpu, snapshot.host)
    missing = _missing(
        memory_total_bytes=total_bytes,
        memory_used_bytes=used_bytes,
        temperature_c=gpu.temperature_c,
        power_w=gpu.power_w,
        power_limit_w=gpu.power_limit_w,
        utilization_percent=gpu.utilization_percent,
        throttle=gpu.throttle,
        xids=xids,
    )
    last = remembered.last_xid
    return GpuStatus(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        memory_total_bytes=known(total_bytes),
        memory_used_bytes=known(used_bytes),
        pressure=remembered.pressure.value,
        temperature_c=known(gpu.temperature_c),
        power_w=known(gpu.power_w),
        power_limit_w=known(gpu.power_limit_w),
        utilization_percent=known(gpu.utilization_percent),
        state=gpu.state.value,
        unified=gpu.unified,
        quarantine=remembered.quarantine,
        read_age_s=round(max(0.0, snapshot.taken_s - gpu.read_s), 3),
        throttle=known(gpu.throttle),
        xids=known(xids),
        last_xid=None if last is None else XidStatus(last.code, last.text, utc_text(last.wall_s)),
        missing=missing if gpu.fault is None else {**missing, "state": gpu.fault},
    )


def _worker(
    remembered: WorkerMemory, wanted: WorkerPlan | None, context: StatusContext, snapshot: Snapshot
) -> WorkerStatus:
    name, life, last = remembered.name, remembered.life, remembered.last
    plan = life.plan if life is not None else wanted or WorkerPlan(name, name, ())
    seen = snapshot.workers.get(name)
    if life is None or seen is None or seen.run != life.run:
        seen = Sighting("", 0.0)  # there is nothing to see, or what was seen is of another life
    age_s = None if life is None else max(0.0, snapshot.taken_s - life.launched_s)
    max_age_s = plan.max_age_s if life is None else life.max_age_s
    need, fit = need_of(remembered, plan), known_fit(remembered, plan)
    vram_bytes = seen.vram_bytes
    if snapshot.gpu_missing is not None and vram_bytes == NOT_READ_YET:
        vram_bytes = Missing(snapshot.gpu_missing)
    readings = {
        "memory_bytes": seen.memory_bytes,
        "memory_file_bytes": seen.memory_file_bytes,
        "vram_bytes": vram_bytes,
    }
    return WorkerStatus(
        name=name,
        phase=remembered.phase.value,
        pid=_pid(remembered, seen),
        unit=f"gpu-worker-{name}.service" if context.launcher == "systemd" else None,
        age_s=None if age_s is None else round(age_s, 3),
        max_age_s=None if max_age_s is None else round(max_age_s, 3),
        restart_in_s=_restart_in_s(remembered, age_s, max_age_s),
        memory_bytes=known(seen.memory_bytes),
        memory_file_bytes=known(seen.memory_file_bytes),
        memory_cap_bytes=plan.memory.cap_bytes,
        vram_bytes=known(vram_bytes),
        vram_cap_bytes=plan.vram_cap_bytes,
        vram_enforcement=_enforcement(plan, life, snapshot.gpus),
        gpus=() if life is None else life.gpus,
        restarts=remembered.restarts,
        last_restart=None
        if last is None
        else LastRestartStatus(last.cause, last.reason, utc_text(last.wall_s)),
        rung=remembered.rung,
        settings=plan_on(remembered, plan).settings if life is None else life.settings,
        oom_events=remembered.oom_events,
        forecast_s=_forecast_s(remembered, snapshot.taken_s),
        held=remembered.held,
        run=None if life is None else life.run,
        waits_for=remembered.waits_for,
        done=remembered.done,
        processes=len(seen.pids),
        needs_memory_bytes=need.memory_bytes,
        needs_vram_bytes=need.vram_bytes,
        needs_prompt_cache_bytes=None if fit is None else fit.prompt_cache_bytes,
        needs_mapped_bytes=None if fit is None else fit.mapped_bytes,
        reported=None if life is None else _reported(life, snapshot.taken_s),
        restarts_by_cause={cause.value: times for cause, times in remembered.restarts_by.items()},
        missing=(_missing(**readings) if _lives(remembered) else {}) | _not_reckoned(remembered),
    )


def _reported(life: Life, now_s: float) -> ReportedStatus | None:
    report = life.report
    if report is None or life.reported_s is None:
        return None
    return ReportedStatus(
        level=None if report.level is None else report.level.value,
        memory=report.memory,
        advice=report.advice,
        progress=report.progress,
        batches=report.batches,
        draining=life.words is not None and life.words.drain is not None,
        drained=report.drained,
        report_age_s=round(max(0.0, now_s - life.reported_s), 3),
    )


def _not_reckoned(remembered: WorkerMemory) -> dict[str, str]:
    asked = remembered.reckoning
    return {"reckoned": asked.missing} if asked is not None and asked.missing is not None else {}


def _lives(remembered: WorkerMemory) -> bool:
    stopped = remembered.stop is not None and remembered.stop.exited_s is not None
    return remembered.life is not None and remembered.phase in _ALIVE and not stopped


def _pid(remembered: WorkerMemory, seen: Sighting) -> int | None:
    """Return the main process only while it lives; others of its tree may live on."""
    identity = None if remembered.life is None else remembered.life.identity
    if identity is None or not _lives(remembered) or (seen.pids and identity.pid not in seen.pids):
        return None
    return identity.pid


def _restart_in_s(remembered: WorkerMemory, age_s: float | None, max_age_s: float | None) -> float | None:
    if age_s is None or max_age_s is None or remembered.phase not in _AGEING:
        return None
    return round(max(0.0, max_age_s - age_s), 3)


def _forecast_s(remembered: WorkerMemory, now_s: float) -> float | None:
    if remembered.life is None or remembered.phase is not Phase.READY:
        return None
    found = forecast(remembered.life, now_s)
    return None if found is None else round(found.in_s, 3)


def _enforcement(plan: WorkerPlan, life: Life | None, gpus: tuple[GpuSample, ...]) -> str:
    """Say how a VRAM cap can be held: by the worker's processes, by the device's total, or not at all."""
    pinned = () if life is None else life.gpus
    own = [gpu for gpu in gpus if gpu.uuid in pinned] or [*gpus]
    if not own or plan.gpus.kind == "none":
        return "none"
    return "device-only" if any(isinstance(gpu.processes, Missing) for gpu in own) else "poll"


def _missing(**readings: float | tuple[str, ...] | Missing) -> dict[str, str]:
    return {name: reading.why for name, reading in readings.items() if isinstance(reading, Missing)}
