"""An alert as it is shown: which rule, about what, since when."""

from typing import Literal

from msgspec import Struct

AlertState = Literal["pending", "firing", "resolved"]


class AlertStatus(Struct, frozen=True):
    """One alert of one subject: a worker, a GPU (its UUID), or with neither the machine.

    Times are Unix times. Pending is true, but not yet for as long as the rule asks. `value` is what was
    read last, in the unit of the rule's comparison; None where it could not be read.
    """

    name: str
    severity: Literal["info", "warning", "critical"]
    state: AlertState
    summary: str
    worker: str | None = None
    gpu: str | None = None
    value: float | None = None
    threshold: float | None = None
    since_wall_s: float = 0.0
    resolved_wall_s: float | None = None
    runbook: str | None = None
