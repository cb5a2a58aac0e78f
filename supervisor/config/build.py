"""Turns the shapes of the file into the plan: units, targets, replicas."""

import re
from collections.abc import Mapping
from typing import Final

from supervisor.config.alerts import alerts_of
from supervisor.config.fault import Report, quoted
from supervisor.config.scalars import nearest
from supervisor.config.shape import ConfigShape, Gpus, WebShape, WorkerShape
from supervisor.config.targets import Site, drain_of, endpoint_of, health_of, ready_of
from supervisor.model.plan import (
    BreachRule,
    GpuChoice,
    GpuLevels,
    GpuPlan,
    HostPlan,
    MemoryCaps,
    Needs,
    Plan,
    RestartRule,
    StallRule,
    WebPlan,
    WorkerPlan,
)

_MOST_WORKERS: Final = 4096
_MANY_GPUS: Final = 1024
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,250}[A-Za-z0-9_])?")


def plan_of(shape: ConfigShape, report: Report) -> Plan:
    """Return the plan of the file; it is only worth something if the report holds no fault."""
    workers: dict[str, WorkerPlan] = {}
    total = sum(worker.replicas for worker in shape.workers.values())
    if total > _MOST_WORKERS:
        report.fault(("workers",), f"{total} workers with all replicas, and {_MOST_WORKERS} is the most")
        return Plan()
    for base, worker in shape.workers.items():
        for plan in _replicas(base, worker, report):
            if plan.name in workers:
                why = f"its replica {plan.name} has the name of another worker"
                report.fault(("workers", base if plan.replica else plan.base), why)
            workers[plan.name] = plan
    return Plan(
        workers=workers,
        poll_interval_s=shape.poll_interval,
        launcher=shape.launcher,
        stop_workers=shape.stop_workers,
        host=_host(shape),
        gpu=_gpu(shape),
        alerts=alerts_of(shape.alerts, report),
        web=_web(shape.web, report),
        source=report.file,
    )


def _host(shape: ConfigShape) -> HostPlan:
    host = shape.host
    return HostPlan(
        warn_available_bytes=host.warn_available,
        critical_available_bytes=host.critical_available,
        max_used=host.max_used,
        pressure=None if host.pressure is None else StallRule(host.pressure.full, host.pressure.for_),
    )


def _gpu(shape: ConfigShape) -> GpuPlan:
    gpu = shape.gpu
    levels = gpu.pressure
    return GpuPlan(
        levels=GpuLevels(levels.high, levels.critical, levels.extreme, levels.hysteresis),
        restart_above=gpu.restart_above,
        restart_for_s=gpu.restart_for,
        hot_above_c=gpu.hot_above,
        power_near=gpu.power_near,
    )


def _replicas(base: str, shape: WorkerShape, report: Report) -> tuple[WorkerPlan, ...]:
    if shape.replicas == 1:
        return (_worker(base, None, shape, report),)
    return tuple(_worker(base, replica, shape, report) for replica in range(1, shape.replicas + 1))


def _worker(base: str, replica: int | None, shape: WorkerShape, report: Report) -> WorkerPlan:
    path = ("workers", base)
    site = Site(path, shape.settings, replica, report)
    memory, breach, restart = shape.memory, shape.breach, shape.restart
    return WorkerPlan(
        name=base if replica is None else f"{base}-{replica}",
        base=base,
        command=shape.command,
        replica=replica,
        preset=shape.preset,
        directory=shape.directory,
        user=shape.user,
        group=shape.group,
        environment=shape.environment,
        environment_file=shape.environment_file,
        gpus=_gpus(shape.gpus, shape.gpu_count, site),
        priority=shape.priority,
        memory=MemoryCaps(memory.cap, memory.high, memory.max, memory.swap_max),
        vram_cap_bytes=shape.vram.cap,
        needs=Needs(shape.needs.memory, shape.needs.vram),
        cpu_quota=shape.cpu.quota,
        breach=BreachRule(breach.samples, breach.of, breach.warm_up),
        max_age_s=shape.max_age,
        max_age_jitter=shape.max_age_jitter,
        leak_forecast_s=shape.leak.forecast,
        leak_plateau_bytes=shape.leak.plateau or 0,
        start_timeout_s=shape.start_timeout,
        stop_signal=shape.stop_signal,
        stop_again_s=shape.stop_again,
        stop_timeout_s=shape.stop_timeout,
        ready=ready_of(shape.ready, site),
        health=health_of(shape.health, site),
        heartbeat_s=shape.heartbeat,
        drain=drain_of(shape.drain, site),
        restart=RestartRule(restart.first, restart.max, restart.starts, restart.within, restart.on),
        settings=shape.settings,
        ladder=shape.ladder or (),
        makes_ladder=shape.ladder != (),
        climb_after_s=shape.climb_after,
        after=shape.after,
    )


def _gpus(gpus: Gpus | None, count: int | None, site: Site) -> GpuChoice:
    """Return which GPUs are meant. An empty list is none, as it reads."""
    report, path = site.report, (*site.path, "gpus")
    if count is not None and gpus != "auto":
        report.fault((*site.path, "gpu_count"), "counts only with gpus: auto")
    if gpus is None:
        return GpuChoice("any")
    if gpus == "auto":
        return GpuChoice("auto", (), count or 1)
    if gpus in ("none", ()):
        return GpuChoice("none")
    listed = gpus if isinstance(gpus, tuple) else (gpus,)
    known = tuple(_one_gpu(gpu) for gpu in listed)
    for gpu, found in zip(listed, known, strict=True):
        if found is None:
            hint = nearest(str(gpu), ("auto", "none"))
            report.fault(
                path,
                f"{quoted(str(gpu))} is neither an index nor a uuid (GPU-... or MIG-...), auto or none{hint}",
            )
    if len({*known}) < len(known):
        report.fault(path, "names one GPU twice")
    return GpuChoice("listed", tuple(gpu for gpu in known if gpu is not None))


def _one_gpu(gpu: int | str) -> int | str | None:
    """Return an index or a uuid; None for what is neither."""
    text = str(gpu)
    if text.isascii() and text.isdigit() and len(text) < 5 and int(text) < _MANY_GPUS:  # noqa: PLR2004
        return int(text)
    return text if text.startswith(("GPU-", "MIG-")) and len(text) > 8 and text.isprintable() else None  # noqa: PLR2004


def _web(shape: WebShape, report: Report) -> WebPlan:
    for index, name in enumerate(shape.hosts):
        if not _HOST_NAME.fullmatch(name):
            why = f"{quoted(name)} is no host name, such as gpu.example.org, without a port"
            report.fault(("web", "hosts", index), why)
    endpoint = endpoint_of(shape.listen)
    if isinstance(endpoint, str):
        report.fault(("web", "listen"), endpoint)
        return WebPlan()
    return WebPlan(*endpoint, shape.token_file, shape.allow_actions, shape.hosts)


def bases_of(workers: Mapping[str, WorkerPlan]) -> Mapping[str, list[WorkerPlan]]:
    """Return the workers of a plan by the name that the file gives them."""
    bases: dict[str, list[WorkerPlan]] = {}
    for worker in workers.values():
        bases.setdefault(worker.base, []).append(worker)
    return bases
