"""What is asked of whoever knows the processes and the memory of every life."""

from typing import Protocol

from supervisor.model.snapshot import Sighting

__all__ = ["Trees"]


class Trees(Protocol):
    """The processes of all tracked lives: found in /proc (`Forest`), or kept by cgroups (`CgroupTrees`)."""

    def refresh(self) -> None:
        """Look for processes that have come and gone, where they have to be looked for."""
        ...

    def sight(self, run: str, now_s: float) -> Sighting:
        """Read the memory of a life now. Its pids are empty only where it is known that none is left."""
        ...

    def exact_due(self, run: str, above_bytes: int, now_s: float) -> bool:
        """Tell whether `exact` would say more than `sight` of a life above `above_bytes`."""
        ...

    def exact(self, run: str) -> int | None:
        """Measure a life in bytes, shared pages once; None where it cannot be had. Blocks: for a thread."""
        ...
