"""Facts in which all is well, to be changed in one place; and the findings that a check makes of them."""

from collections.abc import Callable

import msgspec

from supervisor.cli.diagnose.facts import (
    Access,
    Configuration,
    Daemon,
    Disk,
    Driver,
    Facts,
    Gpus,
    Host,
    Incidents,
    KernelLog,
    Owner,
    Units,
)
from supervisor.cli.diagnose.finding import Finding, Findings, Severity
from supervisor.config.fault import Report
from supervisor.config.load import load_text
from supervisor.config.machine import Machine
from supervisor.model.snapshot import GpuProcess, GpuSample, HostSample
from supervisor.model.status import Status, WorkerStatus
from support.control_desk import everything, worker

GIB = 1 << 30
NOW_S = 1_795_228_700.0  # 2026-11-21T02:38:20Z, 72 s after the state of `everything` was taken
CONFIG = "workers: {chat: {command: sleep 1, memory: {cap: 8G}, vram: {cap: 6G}}}"


def status(*workers: WorkerStatus, **fields: object) -> Status:
    """Return the state of a machine with these workers, or with one that is well, taken just now."""
    plain = everything(*(workers or (worker("chat"),)))
    return msgspec.structs.replace(plain, **{"taken_at": "2026-11-21T02:38:18.000Z", **fields})


def daemon(*workers: WorkerStatus, **fields: object) -> Daemon:
    """Return a daemon that tells this state."""
    told = status(*workers, **fields)
    return Daemon("/run/gpu-supervisor/control", told, msgspec.json.encode(told), Incidents())


def configured(text: str = CONFIG, path: str = "/etc/gpu-supervisor/config.yaml") -> Configuration:
    """Return a configuration file of this text."""
    return Configuration(path, exists=True, loaded=load_text(text, Report(path), Machine()), text=text)


def gpu(**fields: object) -> GpuSample:
    """Return a GPU of 80 GiB with 6 in use by pid 17650, changed by `fields`."""
    plain = GpuSample(
        uuid="GPU-1",
        index=0,
        name="NVIDIA H200",
        read_s=1.0,
        memory_total_bytes=80 * GIB,
        memory_used_bytes=6 * GIB,
        temperature_c=40.0,
        processes=(GpuProcess(17650, 5 * GIB),),
    )
    return msgspec.structs.replace(plain, **fields)


def host(**fields: object) -> Host:
    """Return a machine of 64 GiB with 41 free, changed by `fields` of its sample."""
    sample = HostSample(
        read_s=1.0,
        memory_total_bytes=64 * GIB,
        memory_available_bytes=41 * GIB,
        memory_free_bytes=30 * GIB,
        memory_cache_bytes=20 * GIB,
        swap_total_bytes=8 * GIB,
        swap_free_bytes=8 * GIB,
        psi_full_avg10=0.0,
        pages_scanned=0,
    )
    return Host(msgspec.structs.replace(sample, **fields), "Linux 6.1.0 x86_64", "v2", ("/dev/zram0",))


def facts(**fields: object) -> Facts:
    """Return facts in which all is well, changed by `fields`."""
    plain = Facts(
        version="0.1.0",
        python="3.11.7",
        taken_wall_s=NOW_S,
        daemon=daemon(),
        host=host(),
        gpus=Gpus((gpu(),)),
        owners={17650: Owner("chat", "llama-server", "llm")},
        driver=Driver("550.54.14", "550.54.14"),
        kernel_log=KernelLog("/dev/kmsg", ()),
        config=configured(),
        access=Access("ann", ("ann",), ()),
        disks=(Disk("/var/lib/gpu-supervisor", 100 * GIB, 50 * GIB, 1_000_000),),
        units=Units({}, None),
        incidents=Incidents(),
        output={},
    )
    return msgspec.structs.replace(plain, **fields)


def found(check: Callable[[Facts], Findings], of: Facts) -> list[Finding]:
    """Return what a check finds that is not good."""
    return [finding for finding in check(of) if finding.severity is not Severity.OK]


def names(findings: list[Finding]) -> list[tuple[str, str]]:
    """Return the severity and the id of each."""
    return [(finding.severity.value, finding.id) for finding in findings]
