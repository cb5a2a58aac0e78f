"""The machine's own memory: how much is left, and how hard it is being searched for."""

import contextlib
import os
import re
import select
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from supervisor.model.headroom import effective_available
from supervisor.model.reading import Missing
from supervisor.model.snapshot import HostSample
from supervisor.sense.procfs import Shelf

FILES: Final = 3
READ_BYTES: Final = 32 << 10
KIB: Final = 1024
FILL_BYTES_S: Final = 6 << 30  # as fast as memory can be filled; earlyoom assumes the same
QUICKEST_S: Final = 0.1
SLOWEST_S: Final = 1.0
SIZES: Final = (
    b"MemTotal",
    b"MemFree",
    b"MemAvailable",
    b"Buffers",
    b"Cached",
    b"Shmem",
    b"SwapTotal",
    b"SwapFree",
)
SCANS: Final = (b"pgscan_kswapd", b"pgscan_direct", b"pgscan_khugepaged")
ON_LIST: Final = re.compile(rb"^ +count: +(\d+)$", re.MULTILINE)
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
FULL: Final = re.compile(rb"^full avg10=(\d+\.\d+) ", re.MULTILINE)
# 100 ms of stall within 1 s, as systemd has it. Without CAP_SYS_RESOURCE a window is a multiple of 2 s.
TRIGGERS: Final = (b"some 100000 1000000\0", b"some 150000 2000000\0")


class HostSensor:
    """Reads the machine in 10 to 20 us, through descriptors that stay open."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        """Begin without having read anything."""
        self._proc = proc
        self._shelf = Shelf(FILES)

    def read(self, now_s: float) -> HostSample:
        """Read the machine as of `now_s`; what cannot be read is Missing, each part for itself."""
        sizes = self._sizes()

        def size(name: bytes) -> int | Missing:
            if isinstance(sizes, Missing):
                return sizes
            found = sizes.get(name)
            return Missing(f"{self._proc}/meminfo has no {name.decode()}") if found is None else found

        return HostSample(
            read_s=now_s,
            memory_total_bytes=size(b"MemTotal"),
            memory_available_bytes=size(b"MemAvailable"),
            memory_free_bytes=size(b"MemFree"),
            memory_cache_bytes=size(b"cache"),
            swap_total_bytes=size(b"SwapTotal"),
            swap_free_bytes=size(b"SwapFree"),
            psi_full_avg10=self._stall(),
            pages_scanned=self._scanned(),
        )

    def closer(self, sample: HostSample) -> HostSample:
        """Read what is free on the lists of the CPUs as well: 0.1 ms, and more the more CPUs there are."""
        path = self._proc / "zoneinfo"
        try:
            data = path.read_bytes()
        except OSError as error:
            found: int | Missing = Missing(f"cannot read {path}: {error.strerror}")
        else:
            found = sum(int(count) for count in ON_LIST.findall(data)) * PAGE_BYTES
        return replace(sample, memory_per_cpu_bytes=found)

    def close(self) -> None:
        """Let go of every descriptor."""
        self._shelf.close()

    def _sizes(self) -> dict[bytes, int] | Missing:
        data = self._file("meminfo")
        if isinstance(data, Missing):
            return data
        found = ((name, _number(data, b"\n" + name + b":", b" kB\n")) for name in SIZES)
        sizes = {name: kib * KIB for name, kib in found if kib is not None}
        if sizes.keys() >= {b"Buffers", b"Cached", b"Shmem"}:
            sizes[b"cache"] = max(0, sizes[b"Buffers"] + sizes[b"Cached"] - sizes[b"Shmem"])
        return sizes

    def _stall(self) -> float | Missing:
        data = self._file("pressure/memory")
        if isinstance(data, Missing):
            return data
        found = FULL.search(data)
        if found is None:  # present and empty where the kernel was booted with psi=0
            return Missing(f"{self._proc}/pressure/memory tells nothing")
        return float(found[1])

    def _scanned(self) -> int | Missing:
        data = self._file("vmstat")
        if isinstance(data, Missing):
            return data
        counts = [count for name in SCANS if (count := _number(data, b"\n" + name + b" ", b"\n")) is not None]
        return sum(counts) if counts else Missing(f"{self._proc}/vmstat has no pgscan")

    def _file(self, name: str) -> bytes | Missing:
        path = f"{self._proc}/{name}"
        try:
            data = self._shelf.read(path, READ_BYTES)
        except OSError as error:
            return Missing(f"cannot read {path}: {error.strerror}")
        return Missing(f"cannot read {path}: there is none") if data is None else b"\n" + data


def _number(data: bytes, before: bytes, after: bytes) -> int | None:
    """Find one number; ten times cheaper than a regular expression over the whole file."""
    begin = data.find(before)
    end = data.find(after, begin + len(before))
    number = data[begin + len(before) : end].strip()
    return int(number) if begin >= 0 and end >= 0 and number.isdigit() else None


def glance_interval_s(sample: HostSample, floor_bytes: int) -> float:
    """Return when to look at the machine again: before the room above `floor_bytes` could be filled.

    From 0.1 s, where there is no room, to 1 s, from 6 GiB of room on and where the room is not known.
    """
    available_bytes = effective_available(sample)
    if isinstance(available_bytes, Missing):
        return SLOWEST_S
    return min(SLOWEST_S, max(QUICKEST_S, (available_bytes - floor_bytes) / FILL_BYTES_S))


class PressureTrigger:
    """Becomes readable when memory stalls: the kernel watches, and no one polls.

    PSI tells by POLLPRI, which asyncio does not wait for, so it is registered in an epoll of its own,
    and that becomes readable.
    """

    def __init__(self, watched: int, epoll: select.epoll) -> None:
        """Take over the descriptor of the pressure file, with its trigger set, and the epoll it is in."""
        self._watched = watched
        self._epoll = epoll
        self._watching = True

    def fileno(self) -> int:
        """Return the descriptor for `loop.add_reader`."""
        return self._epoll.fileno()

    def drain(self) -> bool:
        """Take note of it, whenever the descriptor is readable; tell whether the kernel goes on watching.

        The trigger of a cgroup that was removed would be readable for ever (kernfs answers every poll
        with POLLERR), so it is let go of: the descriptor then stays silent until `close`.
        """
        for _, events in self._epoll.poll(0):
            if events & select.EPOLLERR:
                self._epoll.unregister(self._watched)
                self._watching = False
        return self._watching

    def close(self) -> None:
        """Let the trigger go."""
        self._epoll.close()
        os.close(self._watched)


def open_trigger(path: Path = Path("/proc/pressure/memory")) -> PressureTrigger | Missing:
    """Ask the kernel to tell when processes stall for want of memory; Missing where it will not.

    `path` may be the memory.pressure of a cgroup, for the processes in it.
    """
    epoll: select.epoll | None = None
    watched: int | None = None
    try:
        watched = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        if not os.read(watched, READ_BYTES):
            os.close(watched)
            return Missing(f"cannot watch {path}: it is empty")
        _set_trigger(watched)
        epoll = select.epoll()
        epoll.register(watched, select.EPOLLPRI)
    except OSError as error:
        if epoll is not None:
            epoll.close()
        if watched is not None:
            os.close(watched)
        return Missing(f"cannot watch {path}: {error.strerror}")
    return PressureTrigger(watched, epoll)


def _set_trigger(watched: int) -> None:
    with contextlib.suppress(OSError):
        os.write(watched, TRIGGERS[0])
        return
    os.write(watched, TRIGGERS[1])
