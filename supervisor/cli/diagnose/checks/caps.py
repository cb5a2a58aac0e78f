"""Caps against what is real: what workers need, what they have mapped, what the GPUs have."""

from collections import defaultdict
from collections.abc import Iterator

from supervisor.cli.diagnose.facts import Facts
from supervisor.cli.diagnose.finding import Finding, Findings, Severity, not_looked_at, ok, page
from supervisor.cli.figures import size
from supervisor.model.plan import WorkerPlan
from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuSample
from supervisor.model.status import WorkerStatus


def check_caps(facts: Facts) -> Findings:
    """Compare the caps of the file with the workers and the machine; sums of RAM are the lint's."""
    if facts.plan is None:
        yield not_looked_at("caps", Missing("there is no good configuration to compare with"))
        return
    found = list(_found(facts))
    yield from found or [ok("caps", "no cap is below what its worker needs, nor their sum above a GPU")]


def _found(facts: Facts) -> Iterator[Finding]:
    plans = facts.planned
    for worker in facts.workers:
        yield from _below_baseline(worker)
        if worker.name in plans:
            yield from _max_below_mapped(worker, plans[worker.name])
    if not isinstance(facts.gpus, Missing):
        yield from _sums(facts, facts.gpus.gpus)


def _below_baseline(worker: WorkerStatus) -> Iterator[Finding]:
    for what, need, cap in (
        ("memory", worker.needs_memory_bytes, worker.memory_cap_bytes),
        ("vram", worker.needs_vram_bytes, worker.vram_cap_bytes),
    ):
        if need is not None and cap is not None and need > cap:
            seen = f"it takes {size(need)} of {what} to come up, its cap is {size(cap)}: no life of it lasts"
            do = f"raise `{what}.cap` above {size(need)}, or its settings down; then `gpu-supervisor reload`"
            subject = f"worker {worker.name}"
            yield Finding(
                Severity.CRITICAL, "cap-below-baseline", seen, do, subject, page("worker-restart-loop")
            )


def _max_below_mapped(worker: WorkerStatus, plan: WorkerPlan) -> Iterator[Finding]:
    mapped, own, most = worker.memory_file_bytes, worker.memory_bytes, plan.memory.max_bytes
    if worker.unit is None or most is None or mapped is None or own is None or mapped + own <= most:
        return
    seen = (
        f"memory.max {size(most)} counts mapped files too: {size(mapped)} are mapped beside {size(own)}"
        " of its own, so the kernel reads the model again and again, or kills it"
    )
    do = f"`memory.max` above {size(mapped + own)}, or none and only `memory.cap`; `gpu-supervisor reload`"
    yield Finding(Severity.WARNING, "memory-max-below-mapped-files", seen, do, f"worker {worker.name}")


def _sums(facts: Facts, gpus: tuple[GpuSample, ...]) -> Iterator[Finding]:
    """Add up the VRAM caps of the workers that run on, or are pinned to, one GPU alone."""
    running = {worker.name: worker.gpus for worker in facts.workers if worker.gpus}
    caps: defaultdict[str, int] = defaultdict(int)
    for name, plan in facts.planned.items():
        pinned = running.get(name) or _pinned(plan, gpus)
        if plan.vram_cap_bytes is not None and len(pinned) == 1:
            caps[pinned[0]] += plan.vram_cap_bytes
    for gpu in gpus:
        total = gpu.memory_total_bytes
        if not isinstance(total, Missing) and caps[gpu.uuid] > total:
            seen = f"the vram caps of its workers add up to {size(caps[gpu.uuid])}, and it has {size(total)}"
            do = "lower `vram.cap` or move a worker (`gpus`); `gpu-supervisor reload`"
            yield Finding(
                Severity.WARNING,
                "vram-caps-above-gpu",
                seen,
                do,
                f"GPU {gpu.index}",
                page("gpu-memory-exhaustion"),
            )


def _pinned(plan: WorkerPlan, gpus: tuple[GpuSample, ...]) -> tuple[str, ...]:
    if plan.gpus.kind != "listed":
        return ()
    return tuple(gpu.uuid for gpu in gpus if gpu.index in plan.gpus.listed or gpu.uuid in plan.gpus.listed)
