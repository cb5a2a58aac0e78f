"""What shall be done. Each action names its worker and says why, in words that an operator can act on."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from supervisor.model.alert import AlertStatus
from supervisor.model.news import Purpose
from supervisor.model.phase import Cause
from supervisor.model.plan import ProbeTarget, Setting, WorkerPlan
from supervisor.model.report import Words

Level = Literal["debug", "info", "warning", "error"]
Field = str | int | float | bool | None


class Launch(Struct, frozen=True, tag="launch"):
    """Start one life of a worker. `gpus` are UUIDs; None leaves CUDA_VISIBLE_DEVICES alone."""

    worker: str
    run: str
    plan: WorkerPlan
    settings: Mapping[str, Setting]
    gpus: tuple[str, ...] | None
    reason: str


class Signal(Struct, frozen=True, tag="signal"):
    """Send `signum` to the worker's main process."""

    worker: str
    run: str
    signum: int
    reason: str


class Kill(Struct, frozen=True, tag="kill"):
    """Send SIGKILL to every process of the worker's tree."""

    worker: str
    run: str
    reason: str


class Forget(Struct, frozen=True, tag="forget"):
    """The life is over and given back: let go of what was kept for it."""

    worker: str
    run: str
    reason: str


class Probe(Struct, frozen=True, tag="probe"):
    """Ask the worker something; the answer is news."""

    worker: str
    run: str
    purpose: Purpose
    target: ProbeTarget
    timeout_s: float
    reason: str


class Reckon(Struct, frozen=True, tag="reckon"):
    """Reckon what a llama.cpp server needs, before its start; the answer is news.

    `shares` are the parts of its GPUs in the layers; without any, all of it lies on the host.
    """

    worker: str
    asked_s: float
    plan: WorkerPlan
    settings: Mapping[str, Setting]
    shares: tuple[int, ...]
    reason: str


class Advise(Struct, frozen=True, tag="advise"):
    """Tell the worker's guard how things stand; what it does with that is its own."""

    worker: str
    run: str
    words: Words
    reason: str


class Alert(Struct, frozen=True, tag="alert"):
    """Tell the receivers of alerts: one fires, still does, or is resolved."""

    alert: AlertStatus
    reason: str
    again: bool = False

    @property
    def worker(self) -> str | None:
        """The worker that it is about, if any."""
        return self.alert.worker


class Notice(Struct, frozen=True, tag="notice"):
    """Tell people: one line of log, and where `incident` is named, one entry of its timeline.

    The first notice of an incident opens it; `outcome` ends it and says how.
    """

    level: Level
    event: str
    reason: str
    worker: str | None = None
    gpu: str | None = None
    cause: Cause | None = None
    incident: str | None = None
    outcome: str | None = None
    fields: Mapping[str, Field] = {}


Action = Launch | Signal | Kill | Forget | Probe | Reckon | Advise | Alert | Notice
