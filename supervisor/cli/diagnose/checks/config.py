"""The configuration: faults, lint, what is not acted on, and whether it is the one in force."""

from collections.abc import Iterator
from typing import Final

from supervisor.cli.diagnose.facts import Configuration, Facts
from supervisor.cli.diagnose.finding import Finding, Findings, Severity, not_looked_at, ok
from supervisor.model.plan import Plan
from supervisor.model.reading import Missing
from supervisor.model.status import WorkerStatus

MOST_LINES: Final = 20


def check_config(facts: Facts) -> Findings:
    """Look at the file, and compare it with what the daemon does."""
    found = facts.config
    if isinstance(found, Missing):
        yield not_looked_at("config", found, "`gpu-supervisor check-config`")
        return
    if not found.exists:
        seen = f"there is no configuration {found.path}"
        do = (
            "write one: `gpu-supervisor recommend` shows a worker for this machine; `gpu-supervisor"
            " check-config`"
        )
        yield Finding(Severity.WARNING, "config-absent", seen, do)
        return
    yield from _faults(found)
    yield from _lint(found)
    if found.loaded.plan is not None and facts.status is not None:
        yield _in_force(found, found.loaded.plan, facts.workers)


def _faults(found: Configuration) -> Iterator[Finding]:
    faults = tuple(map(str, found.loaded.faults))
    if not faults:
        yield ok("config-broken", f"{found.path}: {_count(len(_workers(found)), 'worker')}")
        return
    if isinstance(found.text, Missing) and "Permission denied" in found.text.why:
        yield not_looked_at("config", Missing(faults[0]), "`sudo gpu-supervisor diagnose`")
        return
    seen = (
        f"{found.path} has {_count(len(faults), 'fault')}: the daemon does not start with it, and"
        " refuses to reload it"
    )
    do = f"mend these lines; `gpu-supervisor check-config {found.path}`"
    yield Finding(Severity.CRITICAL, "config-broken", seen, do, lines=_most(faults))


def _lint(found: Configuration) -> Iterator[Finding]:
    if found.loaded.plan is None:
        return
    warnings = tuple(map(str, found.loaded.warnings))
    if warnings:
        seen = (
            f"{found.path} has {_count(len(warnings), 'warning')}: it works, and most likely is not"
            " what was meant"
        )
        yield Finding(
            Severity.WARNING,
            "config-warnings",
            seen,
            "mend them; `gpu-supervisor reload`",
            lines=_most(warnings),
        )
    else:
        yield ok("config-warnings", "no warnings")
    if found.loaded.later:
        yield Finding(
            Severity.INFO,
            "config-not-acted-on",
            "keys that this version, or this launcher, does not act on",
            "nothing, or take them out",
            lines=_most(found.loaded.later),
        )


def _in_force(found: Configuration, plan: Plan, workers: tuple[WorkerStatus, ...]) -> Finding:
    """Compare the file with the workers of the daemon, by name and caps: all that it tells of its plan."""
    running = {worker.name: (worker.memory_cap_bytes, worker.vram_cap_bytes) for worker in workers}
    written = {name: (each.memory.cap_bytes, each.vram_cap_bytes) for name, each in plan.workers.items()}
    differing = sorted(
        name for name in running.keys() | written.keys() if running.get(name) != written.get(name)
    )
    if not differing:
        return ok("config-not-in-force", "the daemon has the same workers and caps")
    seen = f"{found.path} is not what the daemon acts on: it differs for {', '.join(differing)}"
    return Finding(Severity.WARNING, "config-not-in-force", seen, "`gpu-supervisor reload`")


def _workers(found: Configuration) -> tuple[str, ...]:
    return tuple(found.loaded.plan.workers) if found.loaded.plan is not None else ()


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"


def _most(lines: tuple[str, ...]) -> tuple[str, ...]:
    return lines if len(lines) <= MOST_LINES else (*lines[:MOST_LINES], f"and {len(lines) - MOST_LINES} more")
