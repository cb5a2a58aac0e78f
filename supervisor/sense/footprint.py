"""The memory of one process: what it holds itself, what it maps from files, what it shares."""

import os
import re
from pathlib import Path
from typing import Final

from msgspec import Struct

from supervisor.sense.procfs import parse_stat, read_file

# One match over the 1.4 kB of status: 0.5 us. The line break before it keeps a process that is *named*
# "RssAnon: 0 kB" from being believed.
RESIDENT: Final = re.compile(
    rb"\nRssAnon:\s+(\d+) kB\nRssFile:\s+(\d+) kB\nRssShmem:\s+(\d+) kB\n"
    rb"(?:[^\n]*\n){0,12}?VmSwap:\s+(\d+) kB\n"
)
SHARE: Final = re.compile(rb"^(Pss_Anon|Pss_Shmem|SwapPss):\s+(\d+) kB$", re.MULTILINE)
SHARES: Final = 3
KIB: Final = 1024


class Footprint(Struct, frozen=True, gc=False):
    """`own_bytes` is RssAnon + RssShmem + VmSwap; `file_bytes` is RssFile, large where weights are mapped.

    Pages shared with other processes count in full in each. Huge pages of hugetlbfs, shared memory that
    was swapped out and files in a tmpfs that no process maps are in neither.
    """

    own_bytes: int
    file_bytes: int


def parse_status(data: bytes) -> Footprint | None:
    """Read the text of /proc/PID/status; None where it tells of no memory (a zombie)."""
    found = RESIDENT.search(data)
    if found is None:
        return None
    anon, file, shmem, swap = map(int, found.groups())
    return Footprint((anon + shmem + swap) * KIB, file * KIB)


def parse_rollup(data: bytes) -> int | None:
    """Read the text of /proc/PID/smaps_rollup: its fair share of anon, shmem and swap, in bytes.

    A page that n processes map counts as 1/n. None on kernels before 5.4, which do not say.
    """
    shares = dict(SHARE.findall(data))
    return sum(map(int, shares.values())) * KIB if len(shares) == SHARES else None


def threads(proc: Path, pid: int) -> list[int]:
    """Return the threads of a process, its main one excepted; none where it is gone."""
    try:
        names = os.listdir(f"{proc}/{pid}/task")  # noqa: PTH208 - no Path objects are wanted
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(name) for name in names if name != str(pid)]


def by_thread(proc: Path, pid: int) -> Footprint | None:
    """Read a process whose main thread has ended while others run on: only their files still tell.

    None where none lives. Raises OSError where that cannot be told.
    """
    for thread in threads(proc, pid):
        data = read_file(f"{proc}/{pid}/task/{thread}/status")
        footprint = parse_status(data) if data is not None else None
        if footprint is not None:
            return footprint
    return None


class Share(Struct, frozen=True, gc=False):
    """What one process holds, counted alone and counted fairly."""

    own_bytes: int
    fair_bytes: int


def measure_share(proc: Path, pid: int, start_ticks: int) -> Share | None:
    """Walk the page tables of one process: 6 to 11 ms a GB, so never in the loop.

    None where it is gone. Raises OSError where the kernel refuses: it wants the right to trace the process.
    """
    try:
        here = os.open(f"{proc}/{pid}", os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        stat = parse_stat(read_file("stat", here) or b"")
        if stat is None or stat.start_ticks != start_ticks or stat.dead:
            return None
        where = "" if stat.state != "Z" else f"task/{threads(proc, pid)[-1]}/"
        own = parse_status(read_file(f"{where}status", here) or b"")
        rollup = read_file(f"{where}smaps_rollup", here)
    except IndexError:  # its last thread has ended meanwhile
        return None
    finally:
        os.close(here)
    if own is None or rollup is None:
        return None
    fair = parse_rollup(rollup)
    if fair is None:
        raise OSError(f"cannot read {proc}/{pid}/smaps_rollup: no Pss_Anon in it")
    return Share(own.own_bytes, min(fair, own.own_bytes))
