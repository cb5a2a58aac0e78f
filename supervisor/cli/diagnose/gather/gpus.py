"""The GPUs and whose processes are on them, read anew through a helper process as the daemon does."""

import asyncio
import contextlib
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from supervisor.cli.diagnose.facts import Gpus, Owner
from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuSample
from supervisor.model.status import WorkerStatus
from supervisor.sense.gpu.sensor import GpuSensor
from supervisor.sense.procfs import environ_value, read_file, read_stat
from supervisor.systemd.units import worker_of

WITHIN_S: Final = 20.0  # a driver that no one keeps loaded takes a second a GPU
WORKER_VARIABLE: Final = "GPU_SUPERVISOR_WORKER"
MOST_ANCESTORS: Final = 32


def read_gpus() -> Gpus:
    """Read all GPUs once."""
    return asyncio.run(_read())


async def _read() -> Gpus:
    told = asyncio.Event()
    sensor = GpuSensor(tell=told.set)
    try:
        await sensor.start()
        try:
            await asyncio.wait_for(told.wait(), WITHIN_S)
        except TimeoutError:
            return Gpus(sensor.gpus(), f"the NVIDIA driver did not answer within {WITHIN_S:g} s")
        return Gpus(sensor.gpus(), sensor.missing())
    finally:
        await sensor.close()


def find_owners(
    gpus: tuple[GpuSample, ...], workers: tuple[WorkerStatus, ...], proc: Path = Path("/proc")
) -> Mapping[int, Owner]:
    """Say of every process on a GPU whose it is; one that is gone or hidden from us is left out."""
    mains = {worker.pid: worker.name for worker in workers if worker.pid is not None}
    pids = {
        process.pid for gpu in gpus if not isinstance(gpu.processes, Missing) for process in gpu.processes
    }
    return {pid: owner for pid in sorted(pids) if (owner := _owner(proc, pid, mains)) is not None}


def _owner(proc: Path, pid: int, mains: Mapping[int, str]) -> Owner | None:
    try:
        stat = read_stat(proc, pid)
        uid = (proc / str(pid)).stat().st_uid
    except OSError:
        return None
    if stat is None:
        return None
    user = str(uid)
    with contextlib.suppress(KeyError):
        user = pwd.getpwuid(uid).pw_name
    worker = (
        _by_cgroup(proc, pid) or _by_ancestor(proc, pid, mains) or environ_value(proc, pid, WORKER_VARIABLE)
    )
    return Owner(worker, stat.comm, user)


def _by_cgroup(proc: Path, pid: int) -> str | None:
    with contextlib.suppress(OSError):
        for step in (read_file(f"{proc}/{pid}/cgroup") or b"").decode(errors="replace").split("/"):
            if (worker := worker_of(step.strip())) is not None:
                return worker
    return None


def _by_ancestor(proc: Path, pid: int, mains: Mapping[int, str]) -> str | None:
    for _ in range(MOST_ANCESTORS):
        if pid in mains:
            return mains[pid]
        try:
            stat = read_stat(proc, pid)
        except OSError:
            return None
        if stat is None or stat.ppid <= 1:
            return None
        pid = stat.ppid
    return None
