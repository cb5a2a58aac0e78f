"""When a worker is too old."""

from supervisor.decide.chance import draw
from supervisor.model.plan import WorkerPlan


def draw_max_age(plan: WorkerPlan, run: str) -> float | None:
    """Return the age in seconds at which this life is restarted: `max_age`, give or take its jitter.

    Drawn once for each life: drawn anew at each tick, a mean of 1800 s becomes 166 s (circus).
    """
    if plan.max_age_s is None:
        return None
    return plan.max_age_s * (1 + plan.max_age_jitter * (2 * draw(f"age {run}") - 1))
