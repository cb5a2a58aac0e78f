"""What the operator wants: the whole configuration, checked, in bytes, seconds and fractions."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from supervisor.model.alert import Severity
from supervisor.model.condition import Condition


class HttpTarget(Struct, frozen=True, tag="http"):
    """Good when a GET of `url` answers 200."""

    url: str


class TcpTarget(Struct, frozen=True, tag="tcp"):
    """Good when a connection to `host`:`port` is accepted."""

    host: str
    port: int


class LlamaTarget(Struct, frozen=True, tag="llama"):
    """A llama.cpp server at `url`, judged by its slots; ready once it has a model, which a router has not."""

    url: str


class NotifyTarget(Struct, frozen=True, tag="notify"):
    """Good once the worker has sent READY=1 to its NOTIFY_SOCKET."""


class AfterTarget(Struct, frozen=True, tag="after"):
    """Good once the worker has lived for `delay_s`."""

    delay_s: float


class CommandTarget(Struct, frozen=True, tag="command"):
    """Good when the command exits with 0; run without a shell, as the worker's user."""

    command: tuple[str, ...]


class GuardTarget(Struct, frozen=True, tag="guard"):
    """Good once the worker's guard has reported that it is drained."""


ReadyTarget = HttpTarget | TcpTarget | LlamaTarget | NotifyTarget | AfterTarget
HealthTarget = HttpTarget | LlamaTarget
DrainTarget = HttpTarget | LlamaTarget | CommandTarget | GuardTarget
ProbeTarget = HttpTarget | TcpTarget | LlamaTarget | CommandTarget


class HealthRule(Struct, frozen=True):
    """Probe `target` every `interval_s`; `failures` in a row make the worker unhealthy.

    `timeout_s` is the deadline of an answer; for a llama.cpp server it is how long it may be busy
    without progress, and it is asked with a deadline of its own.
    """

    target: HealthTarget
    interval_s: float = 10.0
    timeout_s: float = 5.0
    failures: int = 3


class DrainRule(Struct, frozen=True):
    """Wait until `target` says idle before the stop signal, for `timeout_s` at most."""

    target: DrainTarget
    timeout_s: float = 60.0


class MemoryCaps(Struct, frozen=True):
    """Limits on a worker's RAM: `cap_bytes` is ours, the others are the kernel's (cgroup v2)."""

    cap_bytes: int | None = None
    high_bytes: int | None = None
    max_bytes: int | None = None
    swap_max_bytes: int | None = None


class Needs(Struct, frozen=True):
    """What a worker takes to come up; None where only its earlier lives can tell."""

    memory_bytes: int | None = None
    vram_bytes: int | None = None  # over all its GPUs


class BreachRule(Struct, frozen=True):
    """A cap is breached by `samples` of the last `of` fresh readings, `warm_up_s` after launch."""

    samples: int = 3
    of: int = 5
    warm_up_s: float = 30.0


class RestartRule(Struct, frozen=True):
    """Backoff from `first_s`, doubling to `max_s`; held after `starts` failures within `within_s`.

    `on` `failure`: who ends by itself with status 0 is done, and is not started again.
    """

    first_s: float = 1.0
    max_s: float = 300.0
    starts: int = 5
    within_s: float = 600.0
    on: Literal["always", "failure"] = "always"


class GpuChoice(Struct, frozen=True):
    """Which GPUs a worker may use.

    `kind` `any` leaves the choice to the worker (no CUDA_VISIBLE_DEVICES), `none` hides every
    GPU, `listed` pins those of `listed` (an index or a UUID each), and `auto` has the supervisor
    pick `count` by room.
    """

    kind: Literal["any", "none", "listed", "auto"] = "any"
    listed: tuple[int | str, ...] = ()
    count: int = 1


Setting = str | int | float | bool


class WorkerPlan(Struct, frozen=True):
    """One worker as it shall run; a replica is a worker of its own, named `base`-`replica`."""

    name: str
    base: str
    command: tuple[str, ...]  # with {setting}, {replica} and {port+N} still in braces
    replica: int | None = None
    preset: str | None = None
    directory: str | None = None
    user: str | None = None
    group: str | None = None
    environment: Mapping[str, str] = {}
    environment_file: str | None = None
    gpus: GpuChoice = GpuChoice()
    priority: int = 0
    memory: MemoryCaps = MemoryCaps()
    vram_cap_bytes: int | None = None
    needs: Needs = Needs()
    cpu_quota: float | None = None  # cores: 600% is 6.0
    breach: BreachRule = BreachRule()
    max_age_s: float | None = None
    max_age_jitter: float = 0.1  # a fraction of max_age_s, either way
    leak_forecast_s: float | None = None
    leak_plateau_bytes: int = 0  # growth of caches that is expected, and no leak
    start_timeout_s: float = 300.0
    stop_signal: int = 15
    stop_again_s: float | None = None
    stop_timeout_s: float = 120.0
    ready: ReadyTarget | None = None  # None: ready as soon as it is launched
    health: HealthRule | None = None
    heartbeat_s: float | None = None
    drain: DrainRule | None = None
    restart: RestartRule = RestartRule()
    settings: Mapping[str, Setting] = {}
    ladder: tuple[Mapping[str, Setting], ...] = ()
    makes_ladder: bool = True  # of a llama.cpp server, where none is written; an empty one is none
    climb_after_s: float | None = None  # one rung back up when healthy for so long
    after: tuple[str, ...] = ()  # base names; all replicas of each must be ready


class StallRule(Struct, frozen=True):
    """PSI memory `full` avg10 at or above `full` (a fraction) for `for_s`."""

    full: float = 0.40
    for_s: float = 10.0


class HostPlan(Struct, frozen=True):
    """When the machine's own memory is an emergency."""

    warn_available_bytes: int = 4 << 30
    critical_available_bytes: int = 2 << 30
    max_used: float | None = None  # a fraction of the machine's memory
    pressure: StallRule | None = StallRule()


class GpuLevels(Struct, frozen=True):
    """Used shares of a GPU's memory at which a level begins; `hysteresis` lower, it ends."""

    high: float = 0.75
    critical: float = 0.85
    extreme: float = 0.95
    hysteresis: float = 0.05


class GpuPlan(Struct, frozen=True):
    """What is shown of a GPU, and when a worker on it is restarted."""

    levels: GpuLevels = GpuLevels()
    restart_above: float | None = None
    restart_for_s: float = 10.0
    hot_above_c: float = 85.0
    power_near: float = 0.95


class AlertRule(Struct, frozen=True):
    """One alert: `when` as it was written, read as `condition`, true for `for_s`."""

    name: str
    when: str
    condition: Condition
    for_s: float = 0.0
    severity: Severity = "warning"
    runbook: str | None = None


class WebhookNotify(Struct, frozen=True, tag="webhook"):
    """POST alerts to `webhook`."""

    webhook: str  # its path may hold a secret: never shown
    format: Literal["alertmanager", "json", "slack"] = "alertmanager"


class CommandNotify(Struct, frozen=True, tag="command"):
    """Run `command` for each alert."""

    command: tuple[str, ...]


Notify = WebhookNotify | CommandNotify


class AlertsPlan(Struct, frozen=True):
    """The alerts and whom they are told."""

    rules: tuple[AlertRule, ...] = ()
    notify: tuple[Notify, ...] = ()
    repeat_s: float = 14_400.0  # a firing one is told again


class WebPlan(Struct, frozen=True):
    """Where the web face listens."""

    host: str = "127.0.0.1"
    port: int = 8095
    token_file: str | None = None
    allow_actions: bool = True
    hosts: tuple[str, ...] = ()  # names that it answers to, besides those of this machine's loopback


class Plan(Struct, frozen=True):
    """The whole configuration, checked, with defaults and presets applied and replicas written out."""

    workers: Mapping[str, WorkerPlan] = {}
    poll_interval_s: float = 2.0
    launcher: Literal["auto", "systemd", "direct"] = "auto"
    stop_workers: bool = True  # when the daemon is stopped; a restart of it never stops them
    host: HostPlan = HostPlan()
    gpu: GpuPlan = GpuPlan()
    alerts: AlertsPlan = AlertsPlan()
    web: WebPlan = WebPlan()
    source: str = ""  # the file that it came from, for showing
