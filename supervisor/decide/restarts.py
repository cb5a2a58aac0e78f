"""How soon a worker is started again, and when it no longer is."""

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from supervisor.decide.chance import draw
from supervisor.model.memory import Budget, WorkerMemory
from supervisor.model.plan import RestartRule
from supervisor.model.quantity import format_span

# Backoff is spread by a quarter either way, so that workers that died together do not return together.
SPREAD: Final = 0.25
# Two lives in a row that never were below their cap: the first may have been a spike.
LIVES_ABOVE_CAP: Final = 2


class Spent(Struct, frozen=True):
    """What a counted restart leaves: how many in a row, when they were, and when the next may start."""

    backoff: int
    failures_s: tuple[float, ...]
    retry_s: float
    held: str | None = None


def spend(worker: WorkerMemory, rule: RestartRule, now_s: float, *, healthy_s: float, why: str) -> Spent:
    """Count one failed life, which was ready for `healthy_s`.

    The delay doubles from `first_s` to `max_s`, and begins anew after a life that was ready for
    longer than `max_s`. `starts` failures within `within_s` hold the worker, healthy or not in
    between: where `max_s` is short, a crash loop looks healthy for that long each time.
    """
    backoff = 1 if healthy_s > rule.max_s else worker.backoff + 1
    failures = (*(at for at in worker.failures_s if now_s - at < rule.within_s), now_s)
    held = None
    if len(failures) >= rule.starts:
        held = (
            f"{len(failures)} failures within {format_span(rule.within_s)}, the last: {why};"
            f" `gpu-supervisor reset {worker.name}` releases it"
        )
    return Spent(backoff, failures, now_s + delay_s(rule, backoff, f"{worker.name} {worker.lives}"), held)


def failures_of(worker: WorkerMemory, budget: Budget) -> tuple[float, ...]:
    """Return when the failures happened that are counted together, oldest first."""
    if budget is Budget.ORDINARY:
        return worker.failures_s
    return worker.other_failures_s.get(budget, ())


def with_failures(worker: WorkerMemory, budget: Budget, failures_s: tuple[float, ...]) -> WorkerMemory:
    """Return the worker with these as the failures of one budget."""
    if budget is Budget.ORDINARY:
        return replace(worker, failures_s=failures_s)
    return replace(worker, other_failures_s={**worker.other_failures_s, budget: failures_s})


def delay_s(rule: RestartRule, backoff: int, name: str) -> float:
    """Return the delay before the start that follows `backoff` failures in a row, with its jitter."""
    doubled = rule.first_s * 2.0 ** min(backoff - 1, 60)
    return min(min(doubled, rule.max_s) * (1 + SPREAD * (2 * draw(f"backoff {name}") - 1)), rule.max_s)


def misconfigured(worker: WorkerMemory, cap: str, peak: str) -> str | None:
    """Say so when a worker needs more than its cap from the start: restarting it cannot help."""
    if worker.above_cap_lives < LIVES_ABOVE_CAP:
        return None
    return (
        f"it needs {peak} from the start, above its cap of {cap}, in {worker.above_cap_lives} lives in a row:"
        f" raise memory.cap or make it smaller; `gpu-supervisor reset {worker.name}` releases it"
    )
