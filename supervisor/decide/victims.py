"""Who is ended first when memory is short."""

from collections.abc import Iterable

from msgspec import Struct


class Candidate(Struct, frozen=True):
    """A living worker, as far as the choice looks at it."""

    name: str
    memory_bytes: int  # of the memory that is short; what could not be read counts as nothing
    over_cap: bool
    priority: int
    idle: bool
    launched_s: float


def choose(candidates: Iterable[Candidate]) -> Candidate | None:
    """Return the victim: over its cap, then of the lowest priority, then idle and largest, then newest."""
    return min(candidates, key=_rank, default=None)


def _rank(one: Candidate) -> tuple[bool, int, bool, int, float, str]:
    return (not one.over_cap, one.priority, not one.idle, -one.memory_bytes, -one.launched_s, one.name)


def why_chosen(victim: Candidate) -> str:
    """Say why this one."""
    if victim.over_cap:
        return f"{victim.name} is over its cap"
    return f"{victim.name} is the largest of the lowest priority ({victim.priority})"
