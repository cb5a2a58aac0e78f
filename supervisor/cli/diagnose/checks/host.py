"""The machine: memory that is left, stalls, swap, disk space, cgroups, kernel."""

from collections.abc import Iterator
from typing import Final

from supervisor.cli.diagnose.facts import Disk, Facts, Host
from supervisor.cli.diagnose.finding import Finding, Findings, Severity, not_looked_at, ok, page
from supervisor.cli.figures import size
from supervisor.model.headroom import effective_available
from supervisor.model.plan import HostPlan
from supervisor.model.reading import Missing

LEAST_FREE_BYTES: Final = 64 << 20  # SQLite's journal and a rotation of logs
LOW_FREE_BYTES: Final = 1 << 30
LEAST_FILES: Final = 100
LARGEST: Final = (
    "`gpu-supervisor status`; `ps -eo pid,user,rss,args --sort=-rss | head` shows the largest of all"
)


def check_host(facts: Facts) -> Findings:
    """Look at the machine."""
    if isinstance(facts.host, Missing):
        yield not_looked_at("host", facts.host)
    else:
        yield _memory(facts.host, facts.host_plan)
        yield _stalls(facts.host, facts.host_plan)
        yield _swap(facts.host)
        yield _cgroup(facts.host, facts)
        yield ok("kernel", facts.host.kernel)
    yield from _disks(facts.disks)


def _memory(host: Host, plan: HostPlan) -> Finding:
    total, left = host.sample.memory_total_bytes, effective_available(host.sample)
    if isinstance(left, Missing) or isinstance(total, Missing):
        return not_looked_at(
            "host-memory", left if isinstance(left, Missing) else Missing("its size is unknown")
        )
    seen = f"{size(left)} of {size(total)} can still be had"
    if left < plan.critical_available_bytes:
        seen += (
            f", below host.critical_available {size(plan.critical_available_bytes)}: workers are"
            " stopped for it"
        )
        return Finding(Severity.CRITICAL, "host-memory-low", seen, LARGEST, runbook=page("host-memory-low"))
    if left < plan.warn_available_bytes:
        seen += f", below host.warn_available {size(plan.warn_available_bytes)}"
        return Finding(Severity.WARNING, "host-memory-low", seen, LARGEST, runbook=page("host-memory-low"))
    return ok("host-memory-low", seen)


def _stalls(host: Host, plan: HostPlan) -> Finding:
    stalled = host.sample.psi_full_avg10
    if isinstance(stalled, Missing):
        do = "boot with `psi=1` where the kernel has it (`cat /proc/pressure/memory`)"
        return not_looked_at("host-stalls", stalled, do)
    seen = f"everything stood still for memory in {stalled:.1f}% of the last 10 s (PSI full)"
    if plan.pressure is not None and stalled >= 100 * plan.pressure.full:
        return Finding(Severity.CRITICAL, "host-stalls", seen, LARGEST, runbook=page("host-memory-low"))
    if stalled >= 10:  # noqa: PLR2004 - a second in ten is felt by everybody
        return Finding(Severity.WARNING, "host-stalls", seen, LARGEST, runbook=page("host-memory-low"))
    return ok("host-stalls", seen)


def _swap(host: Host) -> Finding:
    total, free = host.sample.swap_total_bytes, host.sample.swap_free_bytes
    if isinstance(total, Missing) or isinstance(free, Missing):
        return not_looked_at("swap", total if isinstance(total, Missing) else Missing("free swap is unknown"))
    if total == 0:
        seen = (
            "there is no swap: the machine stands still as soon as memory is out, without a slow phase before"
        )
        return Finding(
            Severity.INFO, "swap", seen, "a few GiB of zram or swap give the supervisor time to act"
        )
    names = host.swaps if not isinstance(host.swaps, Missing) else ()
    zram = ", compressed in RAM (zram)" if any("zram" in name for name in names) else ""
    seen = f"{size(total - free)} of {size(total)} used{zram}"
    if free < total // 10:
        return Finding(Severity.WARNING, "swap", seen, LARGEST, runbook=page("host-memory-low"))
    return ok("swap", seen)


def _cgroup(host: Host, facts: Facts) -> Finding:
    if isinstance(host.cgroup, Missing):
        return not_looked_at("cgroup", host.cgroup)
    if host.cgroup == "v2":
        return ok("cgroup", "cgroup v2")
    seen = f"cgroup {host.cgroup}: MemoryMax=, MemoryHigh= and the launcher systemd need v2"
    wanted = facts.plan is not None and facts.plan.launcher == "systemd"
    do = "boot with `systemd.unified_cgroup_hierarchy=1`"
    return Finding(Severity.WARNING if wanted else Severity.INFO, "cgroup", seen, do)


def _disks(disks: tuple[Disk, ...] | Missing) -> Iterator[Finding]:
    if isinstance(disks, Missing):
        yield not_looked_at("disk", disks, "`df -h`")
        return
    for disk in disks:
        seen = f"{size(disk.free_bytes)} of {size(disk.total_bytes)} free for {disk.path}"
        do = f"`df -h {disk.path}`; make room: without it the history is in memory only, and output is lost"
        files = disk.free_files
        if disk.free_bytes < LEAST_FREE_BYTES or (files is not None and files < LEAST_FILES):
            full = seen if files is None or files >= LEAST_FILES else f"{seen}, and {files} files can be made"
            yield Finding(Severity.CRITICAL, "disk-full", full, do)
        elif disk.free_bytes < LOW_FREE_BYTES:
            yield Finding(Severity.WARNING, "disk-full", seen, do)
        else:
            yield ok("disk-full", seen)
