"""An alert as it is shown: which rule, about what, since when."""

from typing import Literal

from msgspec import Struct

Severity = Literal["info", "warning", "critical"]
AlertState = Literal["pending", "firing", "resolved"]


class AlertStatus(Struct, frozen=True):
    """One alert of one subject: a worker, a GPU (its UUID), or with neither the machine.

    Times are Unix times. Pending is true, but not yet for as long as the rule asks. `value` is what was
    read last for the rule's first comparison with a number, in its `unit` as `threshold` is: bytes, percent
    (95 is 95%), s, celsius, w or number; None where it could not be read.
    """

    name: str
    severity: Severity
    state: AlertState
    summary: str
    worker: str | None = None
    gpu: str | None = None
    value: float | None = None
    threshold: float | None = None
    unit: str | None = None
    since_wall_s: float = 0.0
    resolved_wall_s: float | None = None
    runbook: str | None = None
