"""What this process may use of the machine: its cgroups' memory and the cores that it may run on."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from supervisor.model.reading import Missing

_UNLIMITED_BYTES: Final = 1 << 60  # v1 writes 2**63 less a page


class Confines(Struct, frozen=True):
    """`memory_left_bytes` is the least that any cgroup leaves, page cache not counted; None is no limit."""

    memory_limit_bytes: int | None
    memory_left_bytes: int | None
    cores: float | Missing


def read_confines(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Confines:
    """Read the confines of this process, by cgroup v2 or v1; where a file is missing there is no limit."""
    limits: list[tuple[int, int]] = []
    quotas: list[float] = []
    for folder in _folders(proc, cgroups, "memory"):
        limit = _limit(folder)
        if limit is not None:
            limits.append((limit, max(0, limit - _held(folder))))
    for folder in _folders(proc, cgroups, "cpu"):
        quota = _quota(folder)
        if quota is not None:
            quotas.append(quota)
    return Confines(
        min((limit for limit, _ in limits), default=None),
        min((left for _, left in limits), default=None),
        _cores(quotas),
    )


def _cores(quotas: list[float]) -> float | Missing:
    try:
        allowed = len(os.sched_getaffinity(0))
    except OSError as error:
        return Missing(f"cannot read the affinity: {error.strerror}")
    return min([float(allowed), *quotas])


def _folders(proc: Path, cgroups: Path, controller: str) -> Iterator[Path]:
    """Yield the folder of this process's cgroup and of each above it, v2 and v1."""
    for line in (_text(proc / "self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names == "":
            root = cgroups
        elif controller in names.split(","):
            root = cgroups / controller
        else:
            continue
        inside = Path(path.lstrip("/"))
        for folder in (inside, *inside.parents):
            yield root / folder


def _limit(folder: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        text = (_text(folder / name) or "").strip()
        if text.isdigit() and int(text) < _UNLIMITED_BYTES:
            return int(text)
    return None


def _held(folder: Path) -> int:
    """Return what cannot be taken back from a cgroup's processes: its use without the page cache."""
    used = (_text(folder / "memory.current") or _text(folder / "memory.usage_in_bytes") or "0").strip()
    stat = dict(
        line.split(maxsplit=1) for line in (_text(folder / "memory.stat") or "").splitlines() if " " in line
    )
    inactive, active = stat.get("inactive_file", "0"), stat.get("active_file", "0")
    cached = sum(int(part) for part in (inactive, active) if part.isdigit())
    return max(0, (int(used) if used.isdigit() else 0) - cached)


def _quota(folder: Path) -> float | None:
    """Return the cores that cpu.max (v2) or cpu.cfs_quota_us (v1) allow."""
    words = (_text(folder / "cpu.max") or "").split()
    if not words:
        words = [(_text(folder / f"cpu.cfs_{name}_us") or "").strip() for name in ("quota", "period")]
    if len(words) != 2 or not all(word.isdigit() for word in words) or int(words[1]) == 0:  # noqa: PLR2004 - a pair
        return None
    cores = int(words[0]) / int(words[1])
    return cores if math.isfinite(cores) and cores > 0 else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
