"""Workers: held, failing again and again, degraded, leaking, near their caps."""

from collections.abc import Iterator
from typing import Final

from supervisor.cli.diagnose.facts import Daemon, Facts
from supervisor.cli.diagnose.finding import Finding, Findings, Severity, not_looked_at, ok, page
from supervisor.cli.diagnose.trouble import FAILURES, in_trouble
from supervisor.cli.figures import size, span
from supervisor.model.incident import Incident
from supervisor.model.phase import Phase
from supervisor.model.reading import Missing
from supervisor.model.status import WorkerStatus

HOUR_S: Final = 3600.0
LOOPING: Final = 3  # failures within an hour
NEAR: Final = 0.9
LINES: Final = 10


def check_workers(facts: Facts) -> Findings:
    """Look at each worker."""
    if not isinstance(facts.daemon, Daemon):
        yield not_looked_at("worker", Missing(f"the daemon was not asked: {facts.daemon.why}"))
        return
    if isinstance(facts.incidents, Missing):
        yield not_looked_at("worker-restart-loop", facts.incidents, "`gpu-supervisor history`")
    incidents = () if isinstance(facts.incidents, Missing) else facts.incidents.newest
    for worker in facts.workers:
        found = [
            *_held(worker, facts),
            *_loop(worker, incidents, facts),
            *_degraded(worker),
            *_sizes(worker),
            *_unread(worker, facts),
        ]
        yield from found or [ok("worker", f"{worker.phase}, {worker.restarts} restarts", _named(worker))]


def _named(worker: WorkerStatus) -> str:
    return f"worker {worker.name}"


def _held(worker: WorkerStatus, facts: Facts) -> Iterator[Finding]:
    subject, name = _named(worker), worker.name
    if worker.phase == Phase.HELD:
        seen = f"held: {worker.held or 'no reason is given'}"
        do = f"mend the cause (`gpu-supervisor logs {name}`), then `gpu-supervisor reset {name}`"
        yield Finding(
            Severity.CRITICAL, "worker-held", seen, do, subject, page("worker-held"), _lines(name, facts)
        )
    if worker.waits_for is not None:
        seen = f"{worker.phase}, waits for {worker.waits_for}"
        yield Finding(Severity.INFO, "worker-waits", seen, f"`gpu-supervisor status {name}`", subject)


def _loop(worker: WorkerStatus, incidents: tuple[Incident, ...], facts: Facts) -> Iterator[Finding]:
    since_s = facts.taken_wall_s - HOUR_S
    failed = [
        each
        for each in incidents
        if each.worker == worker.name and each.cause in FAILURES and each.opened_wall_s >= since_s
    ]
    name, last = worker.name, worker.last_restart
    if len(failed) >= LOOPING and worker.phase != Phase.HELD:
        causes = ", ".join(sorted({each.cause or "" for each in failed}))
        seen = f"failed {len(failed)} times within the hour ({causes}), the last: {failed[0].reason}"
        do = (
            f"`gpu-supervisor history {name} --since 1h`, `gpu-supervisor logs {name}`;"
            f" `gpu-supervisor stop {name}` ends it"
        )
        yield Finding(
            Severity.WARNING,
            "worker-restart-loop",
            seen,
            do,
            _named(worker),
            page("worker-restart-loop"),
            _lines(name, facts),
        )
    elif worker.phase != Phase.HELD and last is not None and in_trouble(worker):
        seen = f"last restarted for {last.cause} at {last.at}: {last.reason}"
        do = f"`gpu-supervisor history {name}`"
        yield Finding(Severity.INFO, "worker-failed", seen, do, _named(worker), lines=_lines(name, facts))


def _lines(name: str, facts: Facts) -> tuple[str, ...]:
    found = facts.output.get(name, facts.output.get("all workers", ()))
    return (f"its lines: not looked at: {found.why}",) if isinstance(found, Missing) else found[-LINES:]


def _degraded(worker: WorkerStatus) -> Iterator[Finding]:
    name = worker.name
    if worker.rung:
        settings = ", ".join(f"{key}={value}" for key, value in worker.settings.items())
        seen = (
            f"on rung {worker.rung} of its ladder after {worker.oom_events} times out of memory: {settings}"
        )
        do = f"make room, then `gpu-supervisor reset {name}`; for good: smaller `settings`, or `climb_after`"
        yield Finding(Severity.WARNING, "worker-degraded", seen, do, _named(worker), page("degraded-worker"))
    elif worker.oom_events:
        seen = f"out of memory {worker.oom_events} times"
        do = f"`gpu-supervisor history {name}`; a `ladder` lets it go on smaller"
        yield Finding(Severity.INFO, "worker-oom", seen, do, _named(worker), page("degraded-worker"))


def _sizes(worker: WorkerStatus) -> Iterator[Finding]:
    if worker.forecast_s is not None:
        seen = (
            f"grows at rest, and reaches its cap in {span(worker.forecast_s)} at this rate; now"
            f" {_held_now(worker)}"
        )
        do = f"`gpu-supervisor restart {worker.name}` at a quiet moment; `leak.forecast` does it by itself"
        yield Finding(Severity.WARNING, "worker-leaks", seen, do, _named(worker), page("leak-forecast"))
    for what, used, cap in (
        ("memory", worker.memory_bytes, worker.memory_cap_bytes),
        ("vram", worker.vram_bytes, worker.vram_cap_bytes),
    ):
        if used is not None and cap is not None and used >= NEAR * cap:
            seen = f"{what} {size(used)} of its cap {size(cap)}: above it the worker is restarted"
            do = f"`gpu-supervisor status {worker.name} --watch`; raise `{what}.cap`, or have it use less"
            yield Finding(
                Severity.INFO, "worker-near-cap", seen, do, _named(worker), page("high-memory-usage")
            )


def _unread(worker: WorkerStatus, facts: Facts) -> Iterator[Finding]:
    """Yield what the daemon could not read; that there is no GPU is told once, of the driver."""
    no_gpu = facts.status is not None and facts.status.gpu_missing is not None
    for reading, why in worker.missing.items():
        if not (no_gpu and reading == "vram_bytes"):
            yield not_looked_at("worker-reading", Missing(f"{_named(worker)}: {reading}: {why}"))


def _held_now(worker: WorkerStatus) -> str:
    parts = (("memory", worker.memory_bytes), ("vram", worker.vram_bytes))
    return ", ".join(f"{what} {size(held)}" for what, held in parts if held is not None) or "unknown"
