"""Every worker's processes and memory, read from the cgroup of its unit: the kernel keeps the tree."""

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from supervisor.model.reading import Missing
from supervisor.model.snapshot import Identity, Sighting
from supervisor.sense.cgroup_memory import parse_memory
from supervisor.sense.procfs import Shelf, read_file

__all__ = ["CgroupTrees"]

UNNUMBERED: Final = 0  # how cgroup.procs names a process that has no number in our pid namespace
LEAF_LINKS: Final = 2  # of a directory without directories in it
WHOLE_BYTES: Final = 2048  # a kernel buffer holds twice as much: a shorter answer is all there is
LOOKS: Final = 2
FILES: Final = ("cgroup.events", "cgroup.procs", "memory.stat", "memory.swap.current")


class _Kept(Struct):
    """A life's cgroup, and the last that is known of it."""

    path: str
    pids: tuple[int, ...]
    inode: int | None = None  # of the directory, once it was seen: one of the same name is another cgroup
    gone: bool = False


class CgroupTrees:
    """The trees of all tracked lives whose processes each have a cgroup (v2) of their own.

    Nothing has to be searched for: a process is born in the cgroup of its parent, and no new session,
    parent or environment takes it out. A look at a life costs about 20 us, through descriptors that
    stay open. Empty is what the kernel calls so (`populated 0`, which zombies do not count for), or a
    cgroup that is removed, which cannot be done while a process is in it. What cannot be read is not
    empty: the last known processes stand.
    """

    def __init__(self, kept_files: int | None = None) -> None:
        """Begin without lives; keep half of the allowed descriptors at most, or `kept_files`."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 if kept_files is None else kept_files
        self._shelf = Shelf(limit)
        self._lives: dict[str, _Kept] = {}

    def track(self, run: str, cgroup: Path, root: Identity | None) -> None:
        """Follow one life, from now on, in a cgroup that need not be there yet.

        `root` is its main process, which stands for it until the cgroup was read.
        """
        self.forget(run)
        kept = _Kept(str(cgroup), (UNNUMBERED if root is None else root.pid,))
        self._put_away(kept)  # what is open under this name may be an earlier life's
        self._lives[run] = kept

    def forget(self, run: str) -> None:
        """Let go of one life; without effect where it is not tracked."""
        kept = self._lives.pop(run, None)
        if kept is not None:
            self._put_away(kept)

    def refresh(self) -> None:
        """Do nothing: no process has to be looked for."""

    def sight(self, run: str, now_s: float) -> Sighting:
        """Read the processes and the memory of a life now."""
        kept = self._lives.get(run)
        if kept is None:
            missing = Missing(f"run {run} is not tracked")
            return Sighting(run, now_s, memory_bytes=missing, memory_file_bytes=missing)
        pids = self._pids(kept)
        own, file = self._memory(kept)
        return Sighting(run, now_s, pids, own, file)

    def exact_due(self, run: str, above_bytes: int, now_s: float) -> bool:
        """Return False: a cgroup counts each page once."""
        del run, above_bytes, now_s
        return False

    def exact(self, run: str) -> int | None:
        """Return None: there is nothing to add to what `sight` reads."""
        del run
        return None

    def close(self) -> None:
        """Let go of every descriptor."""
        self._shelf.close()

    def _pids(self, kept: _Kept) -> tuple[int, ...]:
        """Return the processes that live; where that cannot be told, those that are known to have lived."""
        try:
            for _ in range(LOOKS):
                links = self._links(kept)
                if links is None:
                    return ()
                events = self._read(f"{kept.path}/cgroup.events")
                if events is not None:
                    kept.pids = self._members(kept, links) if _is_populated(events) else ()
                    break  # else it was removed between the two, and the next look says so
        except OSError:  # out of descriptors, or not permitted: unknown is not gone
            pass
        return kept.pids

    def _links(self, kept: _Kept) -> int | None:
        """Count the links of the cgroup's directory; None where there is none. Raises OSError."""
        if kept.gone:
            return None
        try:
            seen = os.stat(kept.path)  # noqa: PTH116 - three times cheaper
        except FileNotFoundError:
            kept.gone = kept.inode is not None
        else:
            kept.gone = kept.inode not in {None, seen.st_ino}
            if not kept.gone:
                kept.inode = seen.st_ino
                return seen.st_nlink
        if kept.gone:
            self._put_away(kept)
            kept.pids = ()
        return None

    def _members(self, kept: _Kept, links: int) -> tuple[int, ...]:
        """List the processes of a cgroup that has some, and of those below it. Raises OSError."""
        data = self._read(f"{kept.path}/cgroup.procs") or b""
        if len(data) >= WHOLE_BYTES:
            data = read_file(f"{kept.path}/cgroup.procs") or b""
        found = data.split()
        if links != LEAF_LINKS:
            for folder in _below(kept.path):
                found += _listed(folder)
        # None is listed where the last one is about to end, or entered a cgroup that was passed already.
        return tuple(map(int, found)) or kept.pids or (UNNUMBERED,)

    def _memory(self, kept: _Kept) -> tuple[int | Missing, int | Missing]:
        if kept.gone:
            missing = Missing(f"cgroup {kept.path} is removed")
            return missing, missing
        path = f"{kept.path}/memory.stat"
        try:
            stat = self._read(path)
            path = f"{kept.path}/memory.swap.current"
            swap = self._read(path) or b"0"  # there is none where swap is not accounted for
            held = None if stat is None else parse_memory(stat, int(swap))
        except OSError as error:
            missing = Missing(f"cannot read {path}: {error.strerror}")
            return missing, missing
        if held is None:
            why = "there is none" if stat is None else "it does not tell anon, shmem and file"
            missing = Missing(f"cannot read {kept.path}/memory.stat: {why}")
            return missing, missing
        return held.own_bytes, held.file_bytes

    def _read(self, path: str) -> bytes | None:
        """Read a file; None where it, or its cgroup, is gone. Raises OSError for all else."""
        try:
            return self._shelf.read(path)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
        self._shelf.drop(path)
        return None

    def _put_away(self, kept: _Kept) -> None:
        for name in FILES:
            self._shelf.drop(f"{kept.path}/{name}")


def _is_populated(events: bytes) -> bool:
    return b"\npopulated 0\n" not in b"\n" + events


def _below(path: str) -> Iterator[str]:
    """Return the cgroups below one, whatever comes and goes meanwhile. Raises OSError."""
    folders = [path]
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                inner = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            continue
        folders += inner
        yield from inner


def _listed(folder: str) -> list[bytes]:
    """List the processes of a cgroup below a worker's; none where it is gone. Raises OSError."""
    try:
        return (read_file(f"{folder}/cgroup.procs") or b"").split()
    except OSError as error:
        # A threaded cgroup lists threads only; their processes are listed further up.
        if error.errno not in {errno.ENODEV, errno.EOPNOTSUPP}:
            raise
        return []
