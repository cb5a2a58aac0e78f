"""Keys that are understood and checked, and not acted on in this version; `check-config` says so plainly."""

from collections.abc import Iterator

from supervisor.config.build import bases_of
from supervisor.model.plan import Plan, WorkerPlan


def later_of(plan: Plan) -> tuple[str, ...]:
    """Return one line for each such key that is set to something else than its default."""
    lines: list[str] = []
    for base, replicas in bases_of(plan.workers).items():
        lines.extend(
            f"workers.{base}.{key}: {why}"
            for key, why in _of_worker(replicas[0], direct=plan.launcher == "direct")
        )
    return tuple(lines)


def _of_worker(worker: WorkerPlan, *, direct: bool) -> Iterator[tuple[str, str]]:
    if not direct:
        return
    limits = worker.memory
    for key, value in (
        ("memory.high", limits.high_bytes),
        ("memory.max", limits.max_bytes),
        ("memory.swap_max", limits.swap_max_bytes),
        ("cpu.quota", worker.cpu_quota),
    ):
        if value is not None:
            yield key, "kernel limits need the systemd launcher"
