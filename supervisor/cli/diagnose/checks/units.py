"""systemd: the limits in force against those of the file, and the daemon's own unit."""

from collections.abc import Iterator
from typing import Final

from supervisor.cli.diagnose.facts import Daemon, Facts, ServiceSeen, UnitSeen
from supervisor.cli.diagnose.finding import Finding, Findings, Severity, not_looked_at, ok, page
from supervisor.cli.figures import size
from supervisor.model.plan import WorkerPlan
from supervisor.model.quantity import format_percent, format_span
from supervisor.model.reading import Missing
from supervisor.systemd.units import unit_name

RESTARTS_MANY: Final = 3
PAGE_BYTES: Final = 64 << 10  # limits may be rounded to pages, which are as large as this on some machines
QUOTA_STEP: Final = 0.0005  # systemd keeps a quota to the microsecond of a second


def check_units(facts: Facts) -> Findings:
    """Look at the daemon's own unit, and compare each worker's with its plan."""
    if not isinstance(facts.units, Missing) and facts.units.service is not None:
        yield from _service(facts.units.service)
    if isinstance(facts.daemon, Daemon) and facts.daemon.status.launcher == "direct":
        yield ok(
            "unit-limits", "the launcher is direct: workers are no units, and the kernel holds no limits"
        )
        return
    if isinstance(facts.units, Missing):
        yield not_looked_at(
            "unit-limits", facts.units, "`systemctl show gpu-worker-NAME -p MemoryMax,MemoryHigh`"
        )
        return
    for name, plan in facts.planned.items():
        unit = facts.units.workers.get(name)
        if unit is not None and unit.loaded:
            yield from _unit(unit, plan)


def _service(service: ServiceSeen) -> Iterator[Finding]:
    watchdog = "none" if service.watchdog_s is None else format_span(service.watchdog_s)
    seen = (
        f"gpu-supervisor.service is {service.active}, restarted {service.restarts} times, watchdog {watchdog}"
    )
    logs = "`journalctl -u gpu-supervisor -n 100`"
    if service.active == "failed":
        what = f"{seen}, and ended with {service.result}"
        yield Finding(
            Severity.CRITICAL,
            "service-failed",
            what,
            f"{logs}, then `sudo systemctl start gpu-supervisor`",
            runbook=page("supervisor-stale"),
        )
    elif service.restarts >= RESTARTS_MANY or service.result == "watchdog":
        yield Finding(Severity.WARNING, "service-restarts", seen, logs, runbook=page("supervisor-stale"))
    elif service.watchdog_s is None and service.active == "active":
        do = (
            "`systemctl cat gpu-supervisor` shows which drop-in takes `WatchdogSec=` away: a daemon"
            " that hangs is not restarted"
        )
        yield Finding(Severity.WARNING, "service-no-watchdog", seen, do, runbook=page("supervisor-stale"))
    else:
        yield ok("service-failed", seen)


def _unit(unit: UnitSeen, plan: WorkerPlan) -> Iterator[Finding]:
    subject, name = f"worker {unit.worker}", unit_name(unit.worker)
    if unit.stale:
        seen = f"the files of {name} have changed since systemd read them"
        yield Finding(Severity.WARNING, "unit-not-reloaded", seen, "`sudo systemctl daemon-reload`", subject)
    differing = tuple(_differing(unit, plan))
    if not differing:
        yield ok("unit-limits", f"{name} has the limits of the configuration", subject)
    elif unit.drop_ins:
        seen = f"{name} has other limits than the configuration, by drop-ins: {', '.join(unit.drop_ins)}"
        do = f"nothing, if an admin meant it; `systemctl cat {name}` shows them"
        yield Finding(Severity.INFO, "unit-limits-by-drop-in", seen, do, subject, lines=differing)
    else:
        seen = f"{name} has other limits in force than the configuration"
        do = (
            "`gpu-supervisor units render` shows what they should be; `sudo gpu-supervisor units"
            f" apply`, or undo `systemctl set-property {name}`"
        )
        yield Finding(Severity.WARNING, "unit-limits", seen, do, subject, lines=differing)


def _differing(unit: UnitSeen, plan: WorkerPlan) -> Iterator[str]:
    caps = plan.memory
    for name, found, wanted in (
        ("MemoryHigh", unit.memory_high_bytes, caps.high_bytes),
        ("MemoryMax", unit.memory_max_bytes, caps.max_bytes),
        ("MemorySwapMax", unit.swap_max_bytes, caps.swap_max_bytes),
    ):
        if _differs(found, wanted):
            yield f"{name}= is {_size(found)} in force, {_size(wanted)} in the configuration"
    if abs((unit.cpu_quota or 0.0) - (plan.cpu_quota or 0.0)) > QUOTA_STEP:
        yield f"CPUQuota= is {_share(unit.cpu_quota)} in force, {_share(plan.cpu_quota)} in the configuration"


def _differs(found: int | None, wanted: int | None) -> bool:
    if found is None or wanted is None:
        return found is not wanted
    return abs(found - wanted) >= PAGE_BYTES


def _size(limit_bytes: int | None) -> str:
    return "none" if limit_bytes is None else f"{size(limit_bytes)} ({limit_bytes})"


def _share(cores: float | None) -> str:
    return "none" if cores is None else format_percent(cores)
