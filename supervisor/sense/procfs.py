"""Reading /proc as bytes: cheap, and with a vanished process as an ordinary answer."""

import errno
import os
from pathlib import Path
from typing import Final

from msgspec import Struct

RUN_VARIABLE: Final = "GPU_SUPERVISOR_RUN"  # in the environment of every process of a worker
KERNEL_THREAD: Final = 0x00200000  # PF_KTHREAD in field 9 of stat
FIELDS: Final = 20  # from the state to the start time
CHUNK_BYTES: Final = 1 << 16


class Stat(Struct, frozen=True, gc=False):
    """What /proc/PID/stat says of one process. `start_ticks` is in clock ticks since boot."""

    pid: int
    comm: str
    state: str
    ppid: int
    pgrp: int
    session: int
    start_ticks: int
    threads: int = 1
    kernel: bool = False  # a thread of the kernel itself

    @property
    def dead(self) -> bool:
        """Tell whether nothing of it runs any more: a zombie, unless other threads outlive its main one."""
        return self.state in "ZXx" and self.threads <= 1


def parse_stat(data: bytes) -> Stat | None:
    """Read the line of /proc/PID/stat; None where it is cut short.

    The name may hold anything, `) R 1 (` too, so the fields begin after the last `)`.
    """
    name, _, rest = data.rpartition(b")")
    fields = rest.split(None, 20)
    pid, _, comm = name.partition(b" (")
    if len(fields) < FIELDS or not pid.isdigit():
        return None
    return Stat(
        pid=int(pid),
        comm=comm.decode(errors="backslashreplace"),
        state=fields[0].decode(),
        ppid=int(fields[1]),
        pgrp=int(fields[2]),
        session=int(fields[3]),
        start_ticks=int(fields[19]),
        threads=int(fields[17]),
        kernel=bool(int(fields[6]) & KERNEL_THREAD),
    )


def read_file(path: str, dir_fd: int | None = None) -> bytes | None:
    """Read a whole file of /proc; None where it, or its process, is gone. Raises OSError for all else."""
    try:
        fd = os.open(path, os.O_RDONLY, dir_fd=dir_fd)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        chunks = [os.read(fd, CHUNK_BYTES)]
        while chunks[-1]:
            chunks.append(os.read(fd, CHUNK_BYTES))
    except (FileNotFoundError, ProcessLookupError):
        return None
    finally:
        os.close(fd)
    return b"".join(chunks)


def read_stat(proc: Path, pid: int) -> Stat | None:
    """Read one process; None where it is gone. Raises OSError where that cannot be told (EMFILE)."""
    data = read_file(f"{proc}/{pid}/stat")
    return None if data is None else parse_stat(data)


def boot_id(proc: Path) -> str:
    """Return what the kernel drew at random when it booted. Raises OSError where it cannot be read."""
    return (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def value_of(environ: bytes, key: str) -> str | None:
    """Find `key` in the environment of a process as /proc shows it; the first one counts, as in getenv."""
    whole = b"\0" + environ
    found = whole.find(b"\0" + key.encode() + b"=")
    if found < 0:
        return None
    begin = found + len(key) + 2
    end = whole.find(b"\0", begin)
    return os.fsdecode(whole[begin:] if end < 0 else whole[begin:end])


def environ_value(proc: Path, pid: int, key: str) -> str | None:
    """Return `key` from the environment that the process was started with.

    None where it is not set, the process is gone, or its environment is not ours to read.
    """
    try:
        data = read_file(f"{proc}/{pid}/environ")
    except OSError:
        return None
    return None if data is None else value_of(data, key)


def list_pids(proc: Path) -> set[int]:
    """Return every pid there is, zombies included. Raises OSError where /proc cannot be listed."""
    return {int(name) for name in os.listdir(proc) if name.isdigit()}  # noqa: PTH208 - ten times cheaper


class Shelf:
    """Files of /proc that are read again and again, through descriptors that stay open.

    A kept descriptor is bound to one process: it answers ESRCH once that is gone, and is not fooled
    by a reused pid. At most `limit` are kept; beyond it a file is opened and closed for each read.
    """

    def __init__(self, limit: int) -> None:
        """Begin empty; `limit` is a number of descriptors."""
        self._limit = limit
        self._kept: dict[str, int] = {}

    def read(self, path: str, size: int = 8192) -> bytes | None:
        """Read up to `size` bytes; None where file or process is gone. Raises OSError for all else."""
        fd = self._kept.get(path)
        try:
            return self._read_new(path, size) if fd is None else os.pread(fd, size, 0)
        except (FileNotFoundError, ProcessLookupError):
            self.drop(path)
            return None

    def drop(self, path: str) -> None:
        """Let go of one file; without effect where it is not kept."""
        fd = self._kept.pop(path, None)
        if fd is not None:
            os.close(fd)

    def close(self) -> None:
        """Let go of all; each is opened again when it is next read."""
        while self._kept:
            os.close(self._kept.popitem()[1])

    def _read_new(self, path: str, size: int) -> bytes:
        fd = self._open(path)
        try:
            data = os.pread(fd, size, 0)
        except OSError:
            os.close(fd)
            raise
        if len(self._kept) < self._limit:
            self._kept[path] = fd
        else:
            os.close(fd)
        return data

    def _open(self, path: str) -> int:
        try:
            return os.open(path, os.O_RDONLY)
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE} or not self._kept:
                raise
            self.close()  # kept descriptors are a convenience: the last ones belong to whoever needs them
            return os.open(path, os.O_RDONLY)
