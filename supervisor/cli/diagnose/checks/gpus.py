"""GPUs: their state, their memory and who uses it, their heat."""

from collections.abc import Iterator
from typing import Final

from supervisor.cli.diagnose.facts import Facts
from supervisor.cli.diagnose.finding import Finding, Findings, Severity, not_looked_at, ok, page
from supervisor.cli.figures import size
from supervisor.model.phase import GpuState, Throttle
from supervisor.model.plan import GpuPlan
from supervisor.model.quantity import format_percent
from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuProcess, GpuSample

MOST_USERS: Final = 8
# Contexts, the driver's reserve and what fragmentation costs are in no process list: half a GiB is seen on a
# data centre card, and far less than a lost model.
UNACCOUNTED_BYTES: Final = 2 << 30
SAMPLE: Final = "`nvidia-smi --query-gpu=index,memory.used,memory.total,temperature.gpu --format=csv`"


def check_gpus(facts: Facts) -> Findings:
    """Look at each GPU, and at what the daemon says of it."""
    yield from _quarantines(facts)
    if isinstance(facts.gpus, Missing):
        yield not_looked_at("gpu", facts.gpus, "`nvidia-smi`, which hangs where the driver does")
        return
    plan = facts.gpu_plan
    for gpu in facts.gpus.gpus:
        yield _state(gpu)
        if gpu.state is GpuState.OK:
            yield from _memory(gpu, facts, plan)
            yield from _strangers(gpu, facts)
            yield from _unaccounted(gpu)
            yield _heat(gpu, plan.hot_above_c)
            yield from _throttled(gpu)


def _quarantines(facts: Facts) -> Iterator[Finding]:
    for gpu in facts.status.gpus if facts.status is not None else ():
        if gpu.quarantine is not None:
            seen = f"{gpu.uuid} is quarantined, nothing is started on it: {gpu.quarantine}"
            do = (
                "mend the GPU (`journalctl -k -g Xid`); it is used again by itself, or after"
                " `gpu-supervisor reset NAME`"
            )
            yield Finding(
                Severity.CRITICAL, "gpu-quarantined", seen, do, f"GPU {gpu.index}", page("gpu-quarantined")
            )


def _state(gpu: GpuSample) -> Finding:
    subject = f"GPU {gpu.index}"
    if gpu.state is GpuState.OK:
        return ok("gpu-not-ok", f"{gpu.name} {gpu.uuid} answers", subject)
    seen = f"{gpu.uuid} is {gpu.state}: {gpu.fault or 'it tells nothing more'}"
    do = "`journalctl -k -g Xid`, then `sudo nvidia-smi --gpu-reset` with its workers stopped, or reboot"
    return Finding(Severity.CRITICAL, "gpu-not-ok", seen, do, subject, page("gpu-quarantined"))


def _memory(gpu: GpuSample, facts: Facts, plan: GpuPlan) -> Iterator[Finding]:
    subject = f"GPU {gpu.index}"
    total, used = gpu.memory_total_bytes, gpu.memory_used_bytes
    if gpu.unified:
        yield ok("gpu-memory", "shares the machine's memory, which is judged as that", subject)
        return
    if isinstance(total, Missing) or isinstance(used, Missing) or total <= 0:
        why = next((each.why for each in (used, total) if isinstance(each, Missing)), "it has none")
        yield not_looked_at("gpu-memory", Missing(f"{subject}: {why}"), "`nvidia-smi -q -d MEMORY`")
        return
    share = used / total
    seen = f"{size(used)} of {size(total)} used, {format_percent(round(share, 3))}"
    if share < plan.levels.critical:
        yield ok("gpu-memory", seen, subject, tuple(_users(gpu, facts)))
        return
    level, ident, runbook = (
        (Severity.CRITICAL, "gpu-memory-exhausted", "gpu-memory-exhaustion")
        if share >= plan.levels.extreme
        else (Severity.WARNING, "gpu-memory-high", "high-memory-usage")
    )
    do = (
        "restart the largest worker of these (`gpu-supervisor restart NAME`), or give it a"
        " `vram.cap`; end strangers yourself"
    )
    yield Finding(level, ident, seen, do, subject, page(runbook), tuple(_users(gpu, facts)))


def _users(gpu: GpuSample, facts: Facts) -> Iterator[str]:
    if isinstance(gpu.processes, Missing):
        yield f"who uses it cannot be told: {gpu.processes.why}"
        return
    largest = sorted(gpu.processes, key=_held_bytes, reverse=True)
    yield from (_user(process, facts) for process in largest[:MOST_USERS])
    if len(largest) > MOST_USERS:
        yield f"and {len(largest) - MOST_USERS} more"


def _user(process: GpuProcess, facts: Facts) -> str:
    held = "?" if isinstance(process.memory_bytes, Missing) else size(process.memory_bytes)
    if isinstance(facts.owners, Missing):
        return f"{held}  pid {process.pid}: {facts.owners.why}"
    owner = facts.owners.get(process.pid)
    if owner is None:
        return f"{held}  pid {process.pid}, which is gone or hidden from here"
    whose = f"worker {owner.worker}" if owner.worker else f"a stranger, {owner.command} of user {owner.user}"
    return f"{held}  pid {process.pid}, {whose}"


def _strangers(gpu: GpuSample, facts: Facts) -> Iterator[Finding]:
    owners = facts.owners
    if isinstance(gpu.processes, Missing) or isinstance(owners, Missing):
        why = next(each.why for each in (gpu.processes, owners) if isinstance(each, Missing))
        yield not_looked_at(
            "gpu-stranger", Missing(f"GPU {gpu.index}: {why}"), "on the host itself: `nvidia-smi`"
        )
        return
    found = [
        process
        for process in gpu.processes
        if (owner := owners.get(process.pid)) is None or owner.worker is None
    ]
    subject = f"GPU {gpu.index}"
    if not found:
        yield ok("gpu-stranger", f"{len(gpu.processes)} processes, all of workers", subject)
        return
    held_bytes = sum(map(_held_bytes, found))
    total = gpu.memory_total_bytes
    much = not isinstance(total, Missing) and held_bytes * 10 >= total
    whose = (
        "1 process that is no worker" if len(found) == 1 else f"{len(found)} processes that are no workers"
    )
    seen = f"{size(held_bytes)} held by {whose}: nothing caps it"
    do = "`ps -o pid,user,etime,args -p PID`; end them, move them, or make them workers"
    lines = tuple(
        _user(process, facts) for process in sorted(found, key=_held_bytes, reverse=True)[:MOST_USERS]
    )
    severity = Severity.WARNING if much else Severity.INFO
    yield Finding(
        severity, "gpu-stranger", seen, do, subject, page("high-memory-usage") if much else None, lines
    )


def _unaccounted(gpu: GpuSample) -> Iterator[Finding]:
    used = gpu.memory_used_bytes
    if isinstance(gpu.processes, Missing) or isinstance(used, Missing):
        return
    if any(isinstance(process.memory_bytes, Missing) for process in gpu.processes):
        return
    rest_bytes = used - sum(map(_held_bytes, gpu.processes))
    subject = f"GPU {gpu.index}"
    if rest_bytes < UNACCOUNTED_BYTES:
        yield ok("gpu-memory-unaccounted", f"{size(max(0, rest_bytes))} beyond the listed processes", subject)
        return
    seen = (
        f"{size(rest_bytes)} is used and no listed process has it: another container, or a process"
        " that hangs in the driver"
    )
    do = (
        "`sudo fuser -v /dev/nvidia*` shows who holds the device; what nobody holds goes with"
        " `sudo nvidia-smi --gpu-reset`"
    )
    yield Finding(
        Severity.WARNING, "gpu-memory-unaccounted", seen, do, subject, page("gpu-memory-exhaustion")
    )


def _heat(gpu: GpuSample, hot_above_c: float) -> Finding:
    subject = f"GPU {gpu.index}"
    if isinstance(gpu.temperature_c, Missing):
        return not_looked_at("gpu-hot", Missing(f"{subject}: {gpu.temperature_c.why}"))
    seen = f"{gpu.temperature_c:.0f} C, the limit is {hot_above_c:.0f} C (gpu.hot_above)"
    if gpu.temperature_c <= hot_above_c:
        return ok("gpu-hot", seen, subject)
    do = f"look at the fans and the air; {SAMPLE}; a lower `sudo nvidia-smi --power-limit` until then"
    return Finding(Severity.WARNING, "gpu-hot", seen, do, subject, page("gpu-hot"))


def _throttled(gpu: GpuSample) -> Iterator[Finding]:
    """Look for clocks that are held down; at its power limit a GPU may be whenever it has work."""
    if isinstance(gpu.throttle, Missing):
        return
    subject, why = f"GPU {gpu.index}", ", ".join(gpu.throttle) or "nothing"
    if not set(gpu.throttle) - {Throttle.SW_POWER_CAP}:
        yield ok("gpu-throttled", f"held down by {why}", subject)
        return
    do = f"look at the fans, the air and the power supply; {SAMPLE}"
    seen = f"it computes more slowly than it could, its clocks are held down: {why}"
    yield Finding(Severity.WARNING, "gpu-throttled", seen, do, subject, page("gpu-hot"))


def _held_bytes(process: GpuProcess) -> int:
    return 0 if isinstance(process.memory_bytes, Missing) else process.memory_bytes
