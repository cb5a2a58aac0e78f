"""Reads how much memory this process can still have: of the host, of its cgroups, and of its cap."""

import os
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

_KIB: Final = 1024
_UNLIMITED_BYTES: Final = 1 << 62  # v1 writes "no limit" as 2**63 less a page
_CAP: Final = "GPU_SUPERVISOR_MEMORY_CAP"
_OWN: Final = (b"RssAnon", b"RssShmem", b"VmSwap")


class Room(NamedTuple):
    """What is left under one limit, in bytes, and in words whose limit that is."""

    available_bytes: int
    limit_bytes: int
    source: str

    @property
    def usage(self) -> float:
        """The used share, by whomever, from 0 to 1."""
        return 1 - self.available_bytes / self.limit_bytes


class Unreadable(NamedTuple):
    """There is no reading, and why."""

    why: str


class Roots(NamedTuple):
    """Where a reader looks; what differs in a test."""

    proc: str = "/proc"
    cgroup: str = "/sys/fs/cgroup"
    environment: Mapping[str, str] = os.environ


class _Files(NamedTuple):
    """What a version of cgroups calls its files and figures."""

    limits: tuple[str, ...]
    used: str
    reclaimable: tuple[bytes, ...]


# What could be reclaimed is what MemAvailable counts of the host: page cache, mapped model weights and data
# sets among it, and slab. Shared memory is on the lists of anonymous memory, so it is not counted here.
# https://docs.kernel.org/admin-guide/cgroup-v2.html and cgroup-v1/memory.html
_V2: Final = _Files(
    ("memory.max", "memory.high"),
    "memory.current",
    (b"inactive_file", b"active_file", b"slab_reclaimable"),
)
_V1: Final = _Files(
    ("memory.limit_in_bytes",), "memory.usage_in_bytes", (b"total_inactive_file", b"total_active_file")
)


def smallest_room(roots: Roots | None = None) -> Room | Unreadable:
    """Return the least of all rooms; what cannot be read is passed over, unless nothing can."""
    found = rooms(roots)
    known = [each for each in found if isinstance(each, Room)]
    if known:
        return min(known, key=lambda room: room.available_bytes)
    return Unreadable("; ".join(each.why for each in found if isinstance(each, Unreadable)))


def rooms(roots: Roots | None = None) -> tuple[Room | Unreadable, ...]:
    """Read the host, then this process's cgroup and each above it that has a limit, then the worker's cap.

    Free swap is no room. The cap is that of GPU_SUPERVISOR_MEMORY_CAP, counted as the supervisor counts:
    anonymous and shared memory and what is swapped out, but of this process alone, not of its children.
    """
    where = roots or Roots()
    return host_room(where.proc), *_cgroup_rooms(where), *_cap_room(where)


def host_room(proc: str = "/proc") -> Room | Unreadable:
    """Read the machine's memory: MemTotal, and MemAvailable as what is left."""
    path = f"{proc}/meminfo"
    lines = _read(path)
    if isinstance(lines, Unreadable):
        return lines
    total, available = kib_of(lines, b"MemTotal"), kib_of(lines, b"MemAvailable")
    if not total or available is None:
        return Unreadable(f"cannot read {path}: it has no MemTotal or MemAvailable")
    return Room(available, total, "MemAvailable of the host")


def _cgroup_rooms(where: Roots) -> Iterator[Room | Unreadable]:
    path = f"{where.proc}/self/cgroup"
    lines = _read(path)
    if isinstance(lines, Unreadable):
        if os.path.isdir(where.cgroup):  # noqa: PTH112 - pathlib costs 3 ms at import
            yield lines  # else this kernel has no cgroups
        return
    membership = _membership(lines)
    if membership is None:
        return
    files, below, name = membership
    root = f"{where.cgroup}{below}"
    if "/.." in name:
        yield Unreadable(f"cannot read cgroup {name}: it lies outside of this cgroup namespace")
        return
    for cgroup in _upward(_visible(root, name)):
        room = _cgroup_room(f"{root}{cgroup}", cgroup or "/", files)
        if room is not None:
            yield room


def _membership(lines: bytes) -> tuple[_Files, str, str] | None:
    """Find the hierarchy that accounts for memory: v1's where there is one, in a hybrid too."""
    unified = None
    for line in os.fsdecode(lines).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if "memory" in controllers.split(","):
            return _V1, "/memory", name
        if number == "0" and not controllers:
            unified = (_V2, "", name)
    return unified


def _visible(root: str, name: str) -> str:
    """Return the part of a cgroup's name that is found below `root`.

    A container without a cgroup namespace is told its name on the host, but sees only its own part.
    """
    name = name.rstrip("/")
    while name and not os.path.isdir(f"{root}{name}"):  # noqa: PTH112 - pathlib costs 3 ms at import
        _, slash, rest = name[1:].partition("/")
        name = slash + rest
    return name


def _upward(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition("/")[0]
    yield ""


def _cgroup_room(folder: str, name: str, files: _Files) -> Room | Unreadable | None:
    """Read one cgroup; None where it has no limit, as the real root has none."""
    try:
        limits = [(limit, file) for file in files.limits if (limit := _limit(f"{folder}/{file}")) is not None]
        if not limits:
            return None
        limit, file = min(limits)
        used, stat = int(_contents(f"{folder}/{files.used}")), _contents(f"{folder}/memory.stat")
    except OSError as error:
        return Unreadable(f"cannot read {error.filename}: {error.strerror}")
    except ValueError as error:
        return Unreadable(f"cannot read {folder}: {error}")
    held = max(0, used - sum(_figure(stat, each) for each in files.reclaimable))
    return Room(max(0, limit - held), max(1, limit), f"{file} of the cgroup {name}")


def _limit(path: str) -> int | None:
    """Read a limit; None where there is none. Raises OSError and ValueError."""
    try:
        text = _contents(path).strip()
    except FileNotFoundError:  # the real root, or a cgroup that memory is not accounted for in
        return None
    if text == b"max" or int(text) >= _UNLIMITED_BYTES:
        return None
    return int(text)


def _cap_room(where: Roots) -> Iterator[Room | Unreadable]:
    cap = where.environment.get(_CAP, "")
    if not cap:
        return
    if not cap.isdecimal() or not int(cap):
        yield Unreadable(f"cannot use {_CAP}={cap[:40]}: it is no number of bytes above 0")
        return
    path = f"{where.proc}/self/status"  # not smaps_rollup, which walks the page tables of all that is mapped
    lines = _read(path)
    if isinstance(lines, Unreadable):
        yield lines
        return
    own = [kib_of(lines, name) for name in _OWN]
    known = [each for each in own if each is not None]
    if len(known) < len(own):
        yield Unreadable(f"cannot read {path}: it has no {b', '.join(_OWN).decode()}")
        return
    yield Room(max(0, int(cap) - sum(known)), int(cap), _CAP)


def _read(path: str) -> bytes | Unreadable:
    try:
        return _contents(path)
    except OSError as error:
        return Unreadable(f"cannot read {path}: {error.strerror}")


def _contents(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs 3 ms at import
        return file.read()


def kib_of(lines: bytes, name: bytes) -> int | None:
    """Return the bytes that a line such as `MemTotal: 8 kB` tells of, or None where there is none."""
    number = (b"\n" + lines).partition(b"\n" + name + b":")[2].partition(b" kB")[0].strip()
    return int(number) * _KIB if number.isdigit() else None


def _figure(lines: bytes, name: bytes) -> int:
    number = (b"\n" + lines).partition(b"\n" + name + b" ")[2].partition(b"\n")[0]
    return int(number) if number.isdigit() else 0
