"""What is told as it happens, for those who follow along: notices, and steps of workers' jobs."""

from collections.abc import Mapping

from msgspec import Struct

from supervisor.model.action import Field
from supervisor.model.report import Progress


class Told(Struct, frozen=True):
    """One thing that was told. `seq` counts from 1 and skips nothing; the time is a Unix time.

    With `job` it is a step of a worker's job; else a notice, in the words of the log.
    """

    seq: int
    wall_s: float
    level: str
    event: str
    reason: str
    worker: str | None = None
    gpu: str | None = None
    cause: str | None = None
    incident: str | None = None
    fields: Mapping[str, Field] = {}
    job: Progress | None = None


class News(Struct, frozen=True):
    """What was told since somebody last asked; `missed` things had to make room meanwhile.

    `epoch` names one run of the daemon: with another one the counting began anew.
    """

    epoch: str
    last: int
    missed: int = 0
    events: tuple[Told, ...] = ()
