"""The processes of one life and their memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from supervisor.model.reading import Missing
from supervisor.model.snapshot import Sighting
from supervisor.sense.footprint import Footprint, by_thread, parse_status
from supervisor.sense.procfs import Shelf

SEVERAL: Final = 2  # one process alone shares nothing within its tree
SHARING_FRESH_S: Final = 10.0  # while a tree stays near its cap it is measured again this often ...
SHARING_SOON_S: Final = 1.0  # ... or this, once it has processes that the measure does not know
SHARING_COSTS: Final = 50  # ... but at most a fiftieth of the time is spent on it
SHARING_KEPT: Final = 6  # a measure is believed for this many times as long as it is fresh


class Member(Struct, frozen=True):
    """One process of a tree; the two together are not reused within one boot."""

    pid: int
    start_ticks: int


class Sharing(Struct, frozen=True):
    """What a fair measure found to be counted twice, by process, and when; nothing where it failed."""

    twice_bytes: Mapping[Member, int]
    taken_s: float
    cost_s: float

    @property
    def fresh_s(self) -> float:
        """Return how long no other measure is worth its cost."""
        return max(SHARING_FRESH_S, SHARING_COSTS * self.cost_s)


class _Kept(Struct):
    member: Member
    stat_path: str
    status_path: str
    live: bool = True  # False for a zombie: not a member, but its pid is not reused either


class Tree:
    """The processes of one life, each with its two files of /proc on the shelf."""

    def __init__(self, proc: Path, shelf: Shelf, run: str, root: Member) -> None:
        """Begin without processes; `root` only says which one is the main process."""
        self.root = root
        self.sharing: Sharing | None = None
        self._proc = proc
        self._shelf = shelf
        self._run = run
        self._kept: dict[int, _Kept] = {}
        self._counted_bytes: int | None = None  # by the last sight, shared pages in full

    def add(self, member: Member) -> None:
        """Take in a process."""
        here = f"{self._proc}/{member.pid}"
        self._kept[member.pid] = _Kept(member, f"{here}/stat", f"{here}/status")

    def remove(self, pid: int) -> None:
        """Let go of a process that is gone; without effect where it is none of ours."""
        kept = self._kept.pop(pid, None)
        if kept is not None:
            self._shelf.drop(kept.stat_path)
            self._shelf.drop(kept.status_path)

    def bury(self, pid: int) -> None:
        """Note that a process is a zombie."""
        self._kept[pid].live = False

    def clear(self) -> None:
        """Let go of all processes."""
        for pid in tuple(self._kept):
            self.remove(pid)

    def members(self) -> tuple[Member, ...]:
        """Return the live processes, in the order in which they were found."""
        return tuple([kept.member for kept in tuple(self._kept.values()) if kept.live])

    def held(self) -> tuple[Member, ...]:
        """Return all processes that hold a pid, zombies included."""
        return tuple([kept.member for kept in self._kept.values()])

    def read_stat(self, pid: int) -> bytes | None:
        """Read one process again; None where it is gone. Raises OSError where that cannot be told."""
        return self._shelf.read(self._kept[pid].stat_path, 1024)

    def sight(self, now_s: float) -> Sighting:
        """Read the memory of all members.

        A process that vanishes meanwhile is left out. One that lives and cannot be read makes the sums
        Missing: a sum without it would be too small, and would clear a breach.
        """
        own: dict[Member, int] = {}
        file_bytes = 0
        missing: Missing | None = None
        pids: list[int] = []
        for kept in self._kept.values():
            if not kept.live:
                continue
            try:
                footprint = self._read(kept)
            except OSError as error:
                missing = Missing(f"cannot read {kept.status_path}: {error.strerror}")
                pids.append(kept.member.pid)
                continue
            if footprint is not None:
                pids.append(kept.member.pid)
                own[kept.member] = footprint.own_bytes
                file_bytes += footprint.file_bytes
        if missing is not None:
            return Sighting(self._run, now_s, tuple(pids), missing, missing)
        self._counted_bytes = sum(own.values())
        return Sighting(self._run, now_s, tuple(pids), self._fairly(own, now_s), file_bytes)

    def exact_due(self, above_bytes: int, now_s: float) -> bool:
        """Tell whether a fair measure is worth its cost now."""
        members = self.members()
        if len(members) < SEVERAL or self._counted_bytes is None or self._counted_bytes <= above_bytes:
            return False
        if self.sharing is None:
            return True
        age_s = now_s - self.sharing.taken_s
        if age_s >= self.sharing.fresh_s:
            return True
        unmeasured = bool(self.sharing.twice_bytes) and any(
            member not in self.sharing.twice_bytes for member in members
        )
        return unmeasured and age_s >= max(SHARING_SOON_S, SHARING_COSTS * self.sharing.cost_s)

    def _read(self, kept: _Kept) -> Footprint | None:
        data = self._shelf.read(kept.status_path)
        if data is None:
            return None
        footprint = parse_status(data)
        return footprint if footprint is not None else by_thread(self._proc, kept.member.pid)

    def _fairly(self, own: Mapping[Member, int], now_s: float) -> int:
        """Sum up, less what the last fair measure found to be counted twice in processes that still live.

        The measure goes stale as processes write to pages that they shared at the time, so it is
        believed for a while only; and never is the sum below what the largest process holds alone.
        """
        counted_bytes = sum(own.values())
        sharing = self.sharing
        if sharing is None or len(own) < SEVERAL or now_s - sharing.taken_s > SHARING_KEPT * sharing.fresh_s:
            return counted_bytes
        twice = sharing.twice_bytes
        fair_bytes = sum([max(0, held - twice.get(member, 0)) for member, held in own.items()])
        return max(fair_bytes, *own.values())
