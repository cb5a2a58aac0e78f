"""The machine: its memory, its swap, its kernel and its cgroups."""

import os
import time
from pathlib import Path
from typing import Literal

from supervisor.cli.diagnose.facts import Disk, Host
from supervisor.model.reading import Missing
from supervisor.sense.host import HostSensor


def read_host(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Host:
    """Read the machine once."""
    sensor = HostSensor(proc)
    try:
        sample = sensor.read(time.monotonic())
    finally:
        sensor.close()
    name = os.uname()
    return Host(sample, f"{name.sysname} {name.release} {name.machine}", _cgroup(cgroups), _swaps(proc))


def read_disks(directories: tuple[Path, ...]) -> tuple[Disk, ...]:
    """Return the space where each directory is, or will be made; once for each file system."""
    found: dict[int, Disk] = {}
    for directory in directories:
        place = next(path for path in (directory, *directory.parents) if os.path.exists(path))  # noqa: PTH110 - False where hidden
        space = os.statvfs(place)
        disk = Disk(
            path=str(directory),
            total_bytes=space.f_blocks * space.f_frsize,
            free_bytes=space.f_bavail * space.f_frsize,
            free_files=space.f_favail if space.f_files else None,
        )
        found.setdefault(place.stat().st_dev, disk)
    return tuple(found.values())


def _cgroup(cgroups: Path) -> Literal["v2", "hybrid", "v1"] | Missing:
    if (cgroups / "cgroup.controllers").exists():
        return "v2"
    if (cgroups / "unified/cgroup.controllers").exists():
        return "hybrid"
    return "v1" if (cgroups / "memory").is_dir() else Missing(f"{cgroups} holds no cgroups")


def _swaps(proc: Path) -> tuple[str, ...] | Missing:
    path = proc / "swaps"
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return Missing(f"cannot read {path}: {error.strerror}")
    return tuple(line.split()[0] for line in lines[1:] if line.strip())
