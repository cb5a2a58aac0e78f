"""The NVIDIA driver: whether its two halves fit, and whether it answers."""

from typing import Final

from supervisor.cli.diagnose.facts import Driver, Facts
from supervisor.cli.diagnose.finding import Finding, Findings, Severity, not_looked_at, ok, page
from supervisor.model.phase import GpuState
from supervisor.model.reading import Missing
from supervisor.sense.gpu.wire import Fault
from supervisor.sense.gpu.words import ABSENT_CODES, why_none

MISMATCH: Final = why_none(Fault(code=18, text=""))
ABSENT: Final = tuple(why_none(Fault(code=code, text="")) for code in sorted(ABSENT_CODES))
RELOAD: Final = (
    "stop the workers (`gpu-supervisor stop --all`), `sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia"
    " && sudo modprobe nvidia`, `gpu-supervisor start --all`; or reboot"
)


def check_driver(facts: Facts) -> Findings:
    """Compare the versions, and say why no GPU is to be seen."""
    if isinstance(facts.driver, Missing):
        yield not_looked_at("driver", facts.driver, "`cat /proc/driver/nvidia/version`")
    else:
        yield from _versions(facts.driver, facts)
    if not isinstance(facts.gpus, Missing) and facts.gpus.missing is not None and not _mismatch(facts):
        yield _no_gpu(facts.gpus.missing, facts)


def _versions(driver: Driver, facts: Facts) -> Findings:
    module, library = driver.module, driver.library
    if _mismatch(facts) or (isinstance(module, str) and isinstance(library, str) and module != library):
        seen = (
            f"the kernel module is {_told(module)}, libnvidia-ml.so.1 is {_told(library)}: no new"
            " process can use a GPU"
        )
        yield Finding(
            Severity.CRITICAL, "driver-library-mismatch", seen, RELOAD, runbook=page("gpu-quarantined")
        )
    elif isinstance(module, str) and isinstance(library, str):
        yield ok("driver-library-mismatch", f"kernel module and library are both {module}")
    elif isinstance(module, str):
        missing = Missing(f"the kernel module is {module}; of the library: {_told(library)}")
        yield not_looked_at("driver-library-mismatch", missing, "`ldconfig -p | grep libnvidia-ml`")


def _mismatch(facts: Facts) -> bool:
    if isinstance(facts.gpus, Missing):
        return False
    return facts.gpus.missing == MISMATCH or any(gpu.state is GpuState.MISMATCH for gpu in facts.gpus.gpus)


def _told(version: str | Missing) -> str:
    return f"unknown ({version.why})" if isinstance(version, Missing) else version


def _no_gpu(why: str, facts: Facts) -> Finding:
    """Judge that there is no GPU by who wants one."""
    loaded = not isinstance(facts.driver, Missing) and isinstance(facts.driver.module, str)
    if loaded or not why.startswith(ABSENT):
        do = "`nvidia-smi`; `journalctl -k -g 'NVRM|Xid'`; where both hang or fail, reboot"
        return Finding(Severity.CRITICAL, "driver-no-gpu", why, do, runbook=page("gpu-quarantined"))
    wanting = _wanting(facts)
    if wanting:
        do = "install the driver or `sudo modprobe nvidia`; else take `gpus` out of these workers"
        seen = f"{why}; a GPU is wanted by {', '.join(wanting)}"
        return Finding(Severity.CRITICAL, "driver-absent", seen, do, runbook=page("gpu-quarantined"))
    wants = "no worker wants a GPU" if facts.plan is not None else "whether a worker wants one is not known"
    return Finding(Severity.INFO, "driver-absent", f"{why}; {wants}", "nothing, where there is none")


def _wanting(facts: Facts) -> tuple[str, ...]:
    return tuple(worker.name for worker in facts.planned.values() if worker.gpus.kind in {"listed", "auto"})
