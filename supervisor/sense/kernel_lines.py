"""What two kinds of lines of the kernel's log say: Xids of the NVIDIA driver, and kills for want of memory.

Pure, and never raises: a line may be cut, garbled or written by anybody who is root.
"""

import re
from typing import Final

from msgspec import Struct

from supervisor.model.xid import bus_address

TEXT_CHARACTERS: Final = 200  # kept, of what a line says
FALLEN_OFF: Final = 79
PID_MOST: Final = 1 << 22  # PID_MAX_LIMIT of the kernel
KIB: Final = 1024


class XidLine(Struct, frozen=True):
    """An error of a GPU. `pid` is of the initial PID namespace, and evidence only."""

    bus_id: str  # as `model.xid.bus_address` writes it
    code: int
    text: str  # without code, pid and name
    pid: int | None = None
    companion: bool = False  # said without an Xid; most drivers say it with one, just before


class OomKillLine(Struct, frozen=True):
    """A process that the kernel killed for want of memory; one line of two has `scope`, the other sizes."""

    pid: int
    name: str
    scope: str | None = None  # whose memory there was not enough of
    anon_bytes: int | None = None
    file_bytes: int | None = None
    shmem_bytes: int | None = None


KernelLine = XidLine | OomKillLine

# nv_printf in the driver's sources; "GPU-I:05" follows the address with MIG; pid and name since 2019 (R440).
_XID: Final = re.compile(r"NVRM: Xid \(([^)]{1,60})\): (\d{1,4})\b(?:, )?")
_WHO: Final = re.compile(r"pid=(?:(\d{1,10})|[^,]{1,40})(?:, name=[^,]{0,40})?(?:, |$)")
_FALLEN: Final = re.compile(r"NVRM: GPU ([0-9a-fA-F:.]{5,20}): GPU has fallen off the bus")
# mm/oom_kill.c: dump_oom_summary() before the kill (from 5.0, rate-limited), __oom_kill_process() after it.
# A name may hold anything, a comma too: what counts is looked for from the end.
_SUMMARY: Final = re.compile(
    r"oom-kill:constraint=(\w{1,40}),.*?(?:,task_memcg=(.{0,300}?))?,task=(.{0,64}),pid=(\d{1,10}),uid=\d+$"
)
_KILLED: Final = re.compile(
    r"(?:[\w ()]{0,80}: )?Killed process (\d{1,10}) \((.{0,64})\),?(?: UID[: ]\d+,?)?"
    r" total-vm:\d+kB, anon-rss:(\d{1,15})kB, file-rss:(\d{1,15})kB(?:, shmem-rss:(\d{1,15})kB)?"
)
_SCOPES: Final = {
    "CONSTRAINT_NONE": "the machine",
    "CONSTRAINT_CPUSET": "the NUMA nodes of its cpuset",
    "CONSTRAINT_MEMORY_POLICY": "the NUMA nodes of its memory policy",
}


def parse_line(line: str) -> KernelLine | None:
    """Return what a line of the kernel's log says; None for all that is not looked for."""
    if line.startswith("NVRM: "):
        return _xid(line)
    if line.startswith("oom-kill:"):
        return _summary(line)
    return _killed(line) if "Killed process " in line[:120] else None


def merged(former: OomKillLine, new: OomKillLine) -> OomKillLine:
    """Return what two lines about one kill say together."""
    return OomKillLine(
        new.pid,
        new.name or former.name,
        new.scope if new.scope is not None else former.scope,
        new.anon_bytes if new.anon_bytes is not None else former.anon_bytes,
        new.file_bytes if new.file_bytes is not None else former.file_bytes,
        new.shmem_bytes if new.shmem_bytes is not None else former.shmem_bytes,
    )


def _xid(line: str) -> XidLine | None:
    found = _XID.match(line)
    if found is None:
        fallen = _FALLEN.match(line)
        address = None if fallen is None else bus_address(fallen[1])
        text = "GPU has fallen off the bus"
        return None if address is None else XidLine(address, FALLEN_OFF, text, companion=True)
    address = bus_address(found[1])
    if address is None:
        return None
    rest = line[found.end() :]
    who = _WHO.match(rest)
    if who is None:
        return XidLine(address, int(found[2]), _shown(rest))
    return XidLine(address, int(found[2]), _shown(rest[who.end() :]), _pid(who[1]))


def _summary(line: str) -> OomKillLine | None:
    found = _SUMMARY.match(line)
    pid = None if found is None else _pid(found[4])
    if found is None or pid is None:
        return None
    scope = _SCOPES.get(found[1])
    if scope is None:
        scope = f"the cgroup {_shown(found[2] or '?')}"
    return OomKillLine(pid, _shown(found[3]), scope)


def _killed(line: str) -> OomKillLine | None:
    found = _KILLED.match(line)
    pid = None if found is None else _pid(found[1])
    if found is None or pid is None:
        return None
    anon, file, shmem = (None if size is None else int(size) * KIB for size in found.groups()[2:])
    return OomKillLine(pid, _shown(found[2]), None, anon, file, shmem)


def _pid(digits: str | None) -> int | None:
    """Return a pid that there can be."""
    pid = 0 if digits is None else int(digits)
    return pid if 0 < pid <= PID_MOST else None


def _shown(text: str) -> str:
    """Return text that can be put before people."""
    text = text.strip()[: TEXT_CHARACTERS + 1]
    if len(text) > TEXT_CHARACTERS:
        text = f"{text[:TEXT_CHARACTERS]}..."
    return "".join(one if one.isprintable() else "?" for one in text)
