"""What systemd has in force for the workers and for the daemon, as `systemctl show` tells it."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import Final

from supervisor.cli.diagnose.facts import ServiceSeen, Units, UnitSeen
from supervisor.model.quantity import parse_span
from supervisor.model.reading import Missing
from supervisor.systemd.units import unit_name, worker_of

WITHIN_S: Final = 10.0
SERVICE: Final = "gpu-supervisor.service"
WORKER_PROPERTIES: Final = (
    "Id,LoadState,ActiveState,DropInPaths,NeedDaemonReload"
    ",MemoryHigh,MemoryMax,MemorySwapMax,CPUQuotaPerSecUSec"
)
SERVICE_PROPERTIES: Final = "Id,LoadState,ActiveState,Result,NRestarts,WatchdogUSec"
LIVING: Final = frozenset({"active", "activating", "reloading", "deactivating"})
UNLIMITED: Final = 2**64 - 1


def read_units(workers: tuple[str, ...]) -> Units | Missing:
    """Ask systemd of these workers, and of the daemon's own unit."""
    service = _show(SERVICE_PROPERTIES, (SERVICE,))
    if isinstance(service, Missing):
        return service
    found = _show(WORKER_PROPERTIES, tuple(map(unit_name, workers))) if workers else ()
    if isinstance(found, Missing):
        return found
    units = (_unit(each) for each in found)
    own = [_service(each) for each in service if each.get("LoadState") == "loaded"]
    return Units({unit.worker: unit for unit in units if unit is not None}, own[0] if own else None)


def _show(properties: str, units: tuple[str, ...]) -> tuple[Mapping[str, str], ...] | Missing:
    program = shutil.which("systemctl")
    if program is None:
        return Missing("there is no systemctl in PATH")
    command = (program, "show", "--no-pager", f"--property={properties}", *units)
    environment = {"LC_ALL": "C.UTF-8", "PATH": os.environ.get("PATH", os.defpath)}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=WITHIN_S,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Missing(f"systemctl did not answer within {WITHIN_S:g} s")
    except OSError as error:
        return Missing(f"cannot run systemctl: {error.strerror}")
    if done.returncode != 0:
        return Missing(done.stderr.strip().partition("\n")[0] or f"systemctl ended with {done.returncode}")
    return tuple(_blocks(done.stdout))


def _blocks(text: str) -> Iterator[Mapping[str, str]]:
    """Yield the properties of each unit; an empty line stands between two."""
    for block in text.split("\n\n"):
        found = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if found:
            yield found


def _unit(told: Mapping[str, str]) -> UnitSeen | None:
    worker = worker_of(told.get("Id", ""))
    if worker is None:
        return None
    return UnitSeen(
        worker,
        loaded=told.get("LoadState") == "loaded",
        active=told.get("ActiveState") in LIVING,
        memory_high_bytes=_size(told.get("MemoryHigh", "")),
        memory_max_bytes=_size(told.get("MemoryMax", "")),
        swap_max_bytes=_size(told.get("MemorySwapMax", "")),
        cpu_quota=_span_s(told.get("CPUQuotaPerSecUSec", "")),
        drop_ins=tuple(told.get("DropInPaths", "").split()),
        stale=told.get("NeedDaemonReload") == "yes",
    )


def _service(told: Mapping[str, str]) -> ServiceSeen:
    restarts = told.get("NRestarts", "")
    return ServiceSeen(
        told.get("ActiveState", "unknown"),
        told.get("Result", "unknown"),
        int(restarts) if restarts.isdigit() else 0,
        _span_s(told.get("WatchdogUSec", "")),
    )


def _size(text: str) -> int | None:
    return int(text) if text.isdigit() and int(text) < UNLIMITED else None


def _span_s(text: str) -> float | None:
    """Read a span as systemctl writes it; None for `infinity`, and for 0, which is none."""
    try:
        return parse_span(text) or None
    except ValueError:
        return None
