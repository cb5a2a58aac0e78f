"""The file as people write it: every key, its kind, its default and its meaning. The one source of all four.

Values are already read (bytes, seconds, fractions); `None` is a key that was left out or written as null.
"""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from supervisor.config.kinds import Count, Limit, Percent, Period, Share, Signal, Size, Span, Words
from supervisor.model.plan import (
    AlertRule,
    AlertsPlan,
    BreachRule,
    DrainRule,
    GpuLevels,
    GpuPlan,
    HealthRule,
    HostPlan,
    Plan,
    RestartRule,
    Setting,
    StallRule,
    WebPlan,
    WorkerPlan,
)

_HOST: Final = HostPlan()
_STALL: Final = StallRule()
_LEVELS: Final = GpuLevels()
_GPU: Final = GpuPlan()
_BREACH: Final = BreachRule()
_RESTART: Final = RestartRule()
_WEB: Final = WebPlan()
_PLAN: Final = Plan()
_WORKER: Final = WorkerPlan(name="", base="", command=())
_ANY: Final[Any] = None
_HEALTH: Final = HealthRule(target=_ANY)
_DRAIN: Final = DrainRule(target=_ANY)
_ALERT: Final = AlertRule(name="", when="", condition=_ANY)
_ALERTS: Final = AlertsPlan()


def _says(description: str) -> Meta:
    return Meta(description=description)


class StallShape(Struct, frozen=True, forbid_unknown_fields=True, rename={"for_": "for"}):
    """Stalls on memory, as the kernel measures them (PSI)."""

    full: Annotated[Share, _says("PSI memory full avg10 from which it counts")] = _STALL.full
    for_: Annotated[Span, _says("how long it must have lasted")] = _STALL.for_s


class HostShape(Struct, frozen=True, forbid_unknown_fields=True):
    """When the machine's own memory is an emergency."""

    warn_available: Annotated[Size, _says("MemAvailable below this: warn")] = _HOST.warn_available_bytes
    critical_available: Annotated[Size, _says("MemAvailable below this: emergency, one victim at a time")] = (
        _HOST.critical_available_bytes
    )
    max_used: Annotated[Share | None, _says("emergency above this share of the machine's memory as well")] = (
        _HOST.max_used
    )
    pressure: Annotated[
        StallShape | None,
        _says(
            "memory stalls that are an emergency; believed only where there is swap or evidence of reclaim"
        ),
    ] = StallShape()


class GpuLevelsShape(Struct, frozen=True, forbid_unknown_fields=True):
    """The levels of GPU memory pressure that are shown."""

    high: Annotated[Share, _says("used share from which pressure is high")] = _LEVELS.high
    critical: Annotated[Share, _says("... critical")] = _LEVELS.critical
    extreme: Annotated[Share, _says("... extreme")] = _LEVELS.extreme
    hysteresis: Annotated[Percent, _says("a level ends this much lower than it began")] = _LEVELS.hysteresis


class GpuShape(Struct, frozen=True, forbid_unknown_fields=True):
    """What is shown of a GPU, and when a worker on it is restarted."""

    pressure: Annotated[GpuLevelsShape, _says("the levels that are shown")] = GpuLevelsShape()
    restart_above: Annotated[
        Share | None, _says("the device's used share at which a victim on that GPU is restarted")
    ] = _GPU.restart_above
    restart_for: Annotated[Span, _says("... once it has lasted this long")] = _GPU.restart_for_s
    hot_above: Annotated[
        Annotated[float, Meta(gt=0, le=150)],
        _says("degrees C above which it is said to be hot, and its workers are told to cool down"),
    ] = _GPU.hot_above_c
    power_near: Annotated[
        Share, _says("share of the enforced power limit above which its workers are told to ease off")
    ] = _GPU.power_near


class MemoryShape(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits on a worker's RAM (anonymous, shared and swapped memory of its whole process tree)."""

    cap: Annotated[Limit | None, _says("above it the supervisor restarts the worker gracefully")] = None
    high: Annotated[Limit | None, _says("MemoryHigh=: the kernel slows the worker down above it")] = None
    max: Annotated[
        Limit | None, _says("MemoryMax=: the kernel kills above it; mapped model files count too")
    ] = None
    swap_max: Annotated[Size | None, _says("MemorySwapMax=: 0 for no swap")] = None


class VramShape(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits on a worker's GPU memory."""

    cap: Annotated[Limit | None, _says("this worker's GPU memory, summed over its processes and GPUs")] = None


class NeedsShape(Struct, frozen=True, forbid_unknown_fields=True):
    """What a worker takes to come up; it waits until there is room for it beside what others are promised."""

    memory: Annotated[
        Size | None, _says("of the machine's memory; left out, what was reckoned or its last lives took")
    ] = None
    vram: Annotated[
        Size | None,
        _says("of GPU memory, over all its GPUs; left out, what was reckoned or its last lives took"),
    ] = None


class CpuShape(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits on a worker's CPU time."""

    quota: Annotated[Percent | None, _says("CPUQuota=: 600% is six cores")] = None


class BreachShape(Struct, frozen=True, forbid_unknown_fields=True):
    """When a cap counts as breached."""

    samples: Annotated[Count, _says("this many readings above the cap ...")] = _BREACH.samples
    of: Annotated[Count, _says("... of this many fresh ones")] = _BREACH.of
    warm_up: Annotated[Span, _says("readings of the first moments after launch do not count")] = (
        _BREACH.warm_up_s
    )


class LeakShape(Struct, frozen=True, forbid_unknown_fields=True):
    """Restarting before a leak reaches the cap."""

    forecast: Annotated[
        Period | None, _says("restart at an idle moment if the trend reaches the cap within this")
    ] = None
    plateau: Annotated[Size | None, _says("this much growth is expected: caches that fill up")] = None


class ReadyShape(Struct, frozen=True, forbid_unknown_fields=True):
    """How a worker shows that it is ready: one of these."""

    http: Annotated[str | None, _says("a URL that answers 200")] = None
    llama: Annotated[
        str | None, _says("a llama.cpp server: its model is loaded, which it is in no router")
    ] = None
    tcp: Annotated[str | None, _says("HOST:PORT that accepts a connection")] = None
    notify: Annotated[
        bool | None, _says("true: its guard says so, or it sends READY=1 to its NOTIFY_SOCKET (sd_notify)")
    ] = None
    after: Annotated[Span | None, _says("it has lived this long")] = None


class HealthShape(Struct, frozen=True, forbid_unknown_fields=True):
    """How a ready worker is probed: http or llama, and how often."""

    http: Annotated[str | None, _says("a URL that answers 200")] = None
    llama: Annotated[
        str | None,
        _says("a llama.cpp server: progress of its slots, which a hung one cannot fake"),
    ] = None
    interval: Annotated[Period, _says("from one probe to the next")] = _HEALTH.interval_s
    timeout: Annotated[
        Period | None,
        _says(
            "http: a probe without an answer by then has failed (5s unless written); "
            "llama: it may be busy without progress for this long (60s unless written)"
        ),
    ] = None
    failures: Annotated[Count, _says("this many in a row make the worker unhealthy")] = _HEALTH.failures


class DrainShape(Struct, frozen=True, forbid_unknown_fields=True):
    """What a stop waits for before the stop signal: http, llama, command or guard."""

    http: Annotated[str | None, _says("a URL that answers 200 when idle")] = None
    llama: Annotated[str | None, _says("a llama.cpp server: every slot idle")] = None
    command: Annotated[Words | None, _says("a command that exits with 0 when idle")] = None
    guard: Annotated[bool | None, _says("true: its guard is told, and reports when it is done")] = None
    timeout: Annotated[Span, _says("wait no longer than this")] = _DRAIN.timeout_s


class RestartShape(Struct, frozen=True, forbid_unknown_fields=True):
    """Exponential backoff between failures; held after too many."""

    first: Annotated[Span, _says("the first pause; it doubles with each failure")] = _RESTART.first_s
    max: Annotated[Span, _says("the longest pause")] = _RESTART.max_s
    starts: Annotated[Count, _says("this many failures ...")] = _RESTART.starts
    within: Annotated[Period, _says("... within this time, and the worker is held")] = _RESTART.within_s
    on: Annotated[
        Literal["always", "failure"],
        _says("failure: one that ends by itself with status 0 is done, and stays stopped until `start`"),
    ] = _RESTART.on


Gpus = tuple[int | str, ...] | int | str


class WorkerShape(Struct, frozen=True, forbid_unknown_fields=True):
    """One worker."""

    preset: Annotated[
        Literal["llama-server", "vllm", "torchserve", "triton"] | None,
        _says("fills ready, health, drain and stop for a known server; a written key wins"),
    ] = None
    command: Annotated[
        Words, _says("a list, or one string split as a shell would; never handed to a shell")
    ] = ()
    directory: Annotated[str | None, _says("working directory, absolute")] = None
    user: Annotated[str | None, _says("the user it runs as; needs root")] = None
    group: Annotated[str | None, _says("the group it runs as; needs root")] = None
    environment: Annotated[dict[str, str], _says("environment variables")] = {}
    environment_file: Annotated[
        str | None, _says("a file of NAME=VALUE lines for secrets; never shown by any command or endpoint")
    ] = None
    gpus: Annotated[
        Gpus | None,
        _says("indices or uuids of GPUs, which become CUDA_VISIBLE_DEVICES | auto (with gpu_count) | none"),
    ] = None
    gpu_count: Annotated[Count | None, _says("how many GPUs `gpus: auto` picks")] = None
    priority: Annotated[int, _says("in an emergency a higher one is spared longer")] = _WORKER.priority
    memory: Annotated[MemoryShape, _says("limits on its RAM")] = MemoryShape()
    vram: Annotated[VramShape, _says("limits on its GPU memory")] = VramShape()
    needs: Annotated[NeedsShape, _says("what it takes to come up; it waits until there is room")] = (
        NeedsShape()
    )
    cpu: Annotated[CpuShape, _says("limits on its CPU time")] = CpuShape()
    breach: Annotated[BreachShape, _says("when a cap counts as breached")] = BreachShape()
    max_age: Annotated[Period | None, _says("restarted when this old ...")] = None
    max_age_jitter: Annotated[Percent, _says("... give or take, drawn once per life")] = (
        _WORKER.max_age_jitter
    )
    leak: Annotated[LeakShape, _says("restarting before a leak reaches the cap")] = LeakShape()
    start_timeout: Annotated[Period, _says("ready by then, or restarted")] = _WORKER.start_timeout_s
    stop_signal: Annotated[Signal, _says("the signal that asks it to stop")] = _WORKER.stop_signal
    stop_again: Annotated[Period | None, _says("send the stop signal a second time after this")] = None
    stop_timeout: Annotated[Period, _says("then SIGKILL to all that is left of it")] = _WORKER.stop_timeout_s
    ready: Annotated[
        ReadyShape | None, _says("how it shows that it is ready; left out: as soon as it runs")
    ] = None
    health: Annotated[HealthShape | None, _says("how it is probed once it is ready")] = None
    heartbeat: Annotated[
        Period | None,
        _says("its work loop must be heard this often, by its guard or as WATCHDOG=1 to its NOTIFY_SOCKET"),
    ] = None
    drain: Annotated[DrainShape | None, _says("what a stop waits for before the stop signal")] = None
    restart: Annotated[RestartShape, _says("pauses between failures, and when to give up")] = RestartShape()
    settings: Annotated[
        dict[str, Setting],
        _says("values for {braces} in command, environment and probes; `auto` is in docs/llama.md"),
    ] = {}
    ladder: Annotated[
        tuple[dict[str, Setting], ...] | None,
        _says(
            "settings to fall back to, one rung further at each out-of-memory death;"
            " left out, those of a llama.cpp server are reckoned"
        ),
    ] = None
    climb_after: Annotated[
        Period | None, _says("one rung back up, by a drained restart, when it was ready for so long")
    ] = None
    replicas: Annotated[Annotated[int, Meta(ge=1, le=1000)], _says("how many of it: NAME-1, NAME-2, ...")] = 1
    after: Annotated[tuple[str, ...], _says("workers that must be ready, or done, before it is started")] = ()


class AlertRuleShape(Struct, frozen=True, forbid_unknown_fields=True, rename={"for_": "for"}):
    """One alert."""

    name: Annotated[str, _says("its name; no other rule has it")]
    when: Annotated[str, _says('comparisons of readings, such as "gpu.used > 95%": docs/alerts.md')]
    for_: Annotated[Span, _says("how long it must have been true")] = _ALERT.for_s
    severity: Annotated[Literal["info", "warning", "critical"], _says("how bad it is")] = "warning"
    runbook: Annotated[str | None, _says("where to read what to do")] = None


class AlertNotifyShape(Struct, frozen=True, forbid_unknown_fields=True):
    """Whom alerts are told: a webhook or a command."""

    webhook: Annotated[str | None, _says("a URL that alerts are posted to")] = None
    format: Annotated[
        Literal["alertmanager", "json", "slack"],
        _says("how they are written: for the API v2 of an Alertmanager, plain, or as a message of Slack"),
    ] = "alertmanager"
    command: Annotated[Words | None, _says("a command that is run for each, as the supervisor's user")] = None


class AlertsShape(Struct, frozen=True, forbid_unknown_fields=True):
    """The alerts and whom they are told."""

    rules: Annotated[tuple[AlertRuleShape, ...], _says("the alerts")] = ()
    notify: Annotated[tuple[AlertNotifyShape, ...], _says("whom they are told")] = ()
    repeat: Annotated[Period, _says("how often an alert that goes on is told again")] = _ALERTS.repeat_s


class WebShape(Struct, frozen=True, forbid_unknown_fields=True):
    """The dashboard and the HTTP interface."""

    listen: Annotated[str, _says("HOST:PORT")] = f"{_WEB.host}:{_WEB.port}"
    token_file: Annotated[str | None, _says("a file that holds the token every request must carry")] = None
    allow_actions: Annotated[bool, _says("whether workers can be restarted from it")] = _WEB.allow_actions
    hosts: Annotated[
        tuple[str, ...], _says("names that browsers reach it by, besides localhost and the address")
    ] = ()


class ConfigShape(Struct, frozen=True, forbid_unknown_fields=True):
    """The configuration of gpu-supervisor."""

    poll_interval: Annotated[
        Annotated[Span, Meta(ge=0.1, le=3600)], _says("a full look at host, GPUs and workers")
    ] = _PLAN.poll_interval_s
    launcher: Annotated[
        Literal["auto", "systemd", "direct"],
        _says("who starts the workers; auto: systemd in a system service, else direct"),
    ] = _PLAN.launcher
    stop_workers: Annotated[
        bool, _says("whether stopping the supervisor stops the workers; restarting it never does")
    ] = _PLAN.stop_workers
    host: Annotated[HostShape, _says("when the machine's own memory is an emergency")] = HostShape()
    gpu: Annotated[GpuShape, _says("what is shown of a GPU, and when a worker on it is restarted")] = (
        GpuShape()
    )
    defaults: Annotated[WorkerShape, _says("any worker key, for every worker")] = WorkerShape()
    workers: Annotated[dict[str, WorkerShape], _says("the workers, by name")] = {}
    alerts: Annotated[AlertsShape, _says("the alerts and whom they are told")] = AlertsShape()
    web: Annotated[WebShape, _says("the dashboard and the HTTP interface")] = WebShape()
