"""Every worker's process tree, found in one cheap pass over /proc for all of them."""

import math
import resource
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from supervisor.model.reading import Missing
from supervisor.model.snapshot import Identity, Sighting
from supervisor.sense.footprint import measure_share
from supervisor.sense.procfs import (
    RUN_VARIABLE,
    Shelf,
    Stat,
    environ_value,
    list_pids,
    parse_stat,
    read_file,
    read_stat,
    value_of,
)
from supervisor.sense.tree import Member, Sharing, Tree

__all__ = ["Forest", "Member", "Root"]

FOREIGN_ROUND_S: Final = 30.0  # a reused pid is noticed within this
UNDECIDED_PASSES: Final = 3  # a process in the middle of its execve shows no environment for microseconds


class Root(Struct, frozen=True):
    """The main process of one life of a worker."""

    worker: str
    run: str
    identity: Identity


class _Seen(Struct):
    """A pid that was judged, and the run it belongs to; None for a stranger."""

    start_ticks: int
    run: str | None


class Forest:
    """The trees of all tracked lives.

    A process is a member by its parent, else by its session (whose leader was a member: the number of
    a session is not reused while one process is left in it), else by the run id in its environment.
    Once a member it stays one, wherever it is re-parented to. Each pass lists /proc and reads only
    members (a kept descriptor, 1 to 5 us) and pids that are new (10 us); known strangers are read
    again in slices, all of them within 30 s.
    """

    def __init__(
        self,
        proc: Path = Path("/proc"),
        *,
        clock: Callable[[], float] = time.monotonic,
        kept_files: int | None = None,
        reaper: int | None = None,
    ) -> None:
        """Begin without trees; keep half of the allowed descriptors at most, or `kept_files`.

        `reaper` is the pid of the subreaper of all workers, whose children in another session than its
        own are orphans of theirs and of nobody else.
        """
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 if kept_files is None else kept_files
        self._proc = proc
        self._clock = clock
        self._reaper = reaper
        stat = None if reaper is None else read_stat(proc, reaper)
        self._reaper_session = None if stat is None else stat.session
        self._shelf = Shelf(limit)
        self._trees: dict[str, Tree] = {}
        self._roots: dict[Member, str] = {}
        self._seen: dict[int, _Seen] = {}
        self._sessions: dict[int, str] = {}  # those that a member led, while a member is in them
        self._inhabited: set[int] = set()  # sessions that members are in, as of the pass under way
        self._undecided: dict[int, int] = {}  # pids to be looked at again, and for how many passes they were
        # Strangers still to be read again in this round, and how many it began with.
        self._round: list[int] = []
        self._round_size = 0
        self._checked_s = clock()

    def track(self, root: Root) -> None:
        """Follow the tree of one life, from now on; its root is a member at once where it lives."""
        self.forget(root.run)
        member = Member(root.identity.pid, root.identity.start_ticks)
        self._trees[root.run] = Tree(self._proc, self._shelf, root.run, member)
        self._roots[member] = root.run
        known = self._seen.get(member.pid)
        if known is not None and (known.run is None or known.start_ticks != member.start_ticks):
            self._drop(member.pid)  # an earlier process of that pid
        # Strangers as young as the root may be its children that an earlier pass could not explain.
        for pid, seen in tuple(self._seen.items()):
            if seen.run is None and seen.start_ticks >= member.start_ticks:
                del self._seen[pid]
        self._attribute({member.pid} - self._seen.keys())

    def forget(self, run: str) -> None:
        """Let go of one life; without effect where it is not tracked."""
        tree = self._trees.pop(run, None)
        if tree is None:
            return
        for member in tree.held():
            self._seen.pop(member.pid, None)
        tree.clear()
        self._roots = {member: owner for member, owner in self._roots.items() if owner != run}
        self._sessions = {sid: owner for sid, owner in self._sessions.items() if owner != run}

    def refresh(self, *, full: bool = False) -> None:
        """Look once at all processes; `full` trusts nothing remembered but who is a member.

        Where /proc cannot be listed nothing is believed gone.
        """
        if not self._trees:
            self._seen.clear()
            return
        try:
            pids = list_pids(self._proc)
        except OSError:
            return
        if full:
            self._shelf.close()
            self._seen = {pid: seen for pid, seen in self._seen.items() if seen.run is not None}
        for pid in self._seen.keys() - pids:
            self._drop(pid)
        self._inhabited = set()
        self._check_members()
        self._check_strangers()
        self._undecided = {pid: passes for pid, passes in self._undecided.items() if pid in pids}
        for pid in self._undecided:
            self._seen.pop(pid, None)
        self._attribute(pids - self._seen.keys())
        self._sessions = {sid: run for sid, run in self._sessions.items() if sid in self._inhabited}

    def members(self, run: str) -> tuple[Member, ...]:
        """Return the live processes of a life as of the last refresh, its root first; none if not tracked."""
        tree = self._trees.get(run)
        return tree.members() if tree is not None else ()

    def run_of(self, pid: int) -> str | None:
        """Return the run that a process was found to belong to; None for a stranger and for a new one."""
        seen = self._seen.get(pid)
        return None if seen is None else seen.run

    def sight(self, run: str, now_s: float) -> Sighting:
        """Read the memory of a life's members now: 2 to 18 us for each process."""
        tree = self._trees.get(run)
        if tree is None:
            missing = Missing(f"run {run} is not tracked")
            return Sighting(run, now_s, memory_bytes=missing, memory_file_bytes=missing)
        return tree.sight(now_s)

    def exact(self, run: str) -> int | None:
        """Measure a tree in bytes, shared pages once; `sight` remembers it. None where it cannot be had.

        Blocks for 6 to 11 ms a GB, and the processes with it when they map memory: call it in a thread.
        """
        tree = self._trees.get(run)
        if tree is None:
            return None
        begin_s = self._clock()
        try:
            shares = {
                member: share
                for member in tree.members()
                if (share := measure_share(self._proc, member.pid, member.start_ticks)) is not None
            }
        except OSError:
            tree.sharing = Sharing({}, self._clock(), self._clock() - begin_s)
            return None
        twice = {member: share.own_bytes - share.fair_bytes for member, share in shares.items()}
        tree.sharing = Sharing(twice, self._clock(), self._clock() - begin_s)
        return sum(share.fair_bytes for share in shares.values())

    def exact_due(self, run: str, above_bytes: int, now_s: float) -> bool:
        """Tell whether `exact` is worth its cost: several processes above `above_bytes`, no fresh measure."""
        tree = self._trees.get(run)
        return tree is not None and tree.exact_due(above_bytes, now_s)

    def marked(self) -> Mapping[str, tuple[Member, ...]]:
        """Find every live process that carries a run id in its environment, by that id.

        Reads all of /proc (20 us a process): for adoption, at start. Raises OSError where it cannot.
        """
        found: dict[str, tuple[Member, ...]] = {}
        for pid in sorted(list_pids(self._proc)):
            stat = read_stat(self._proc, pid)
            if stat is None or stat.dead or stat.kernel:
                continue
            run = environ_value(self._proc, pid, RUN_VARIABLE)
            if run:
                found[run] = (*found.get(run, ()), Member(pid, stat.start_ticks))
        return found

    def close(self) -> None:
        """Let go of every descriptor."""
        self._shelf.close()

    def _drop(self, pid: int) -> None:
        seen = self._seen.pop(pid, None)
        if seen is not None and seen.run is not None:
            self._trees[seen.run].remove(pid)

    def _check_members(self) -> None:
        """Read every member again and drop the dead and the replaced."""
        for run, tree in self._trees.items():
            for member in tree.held():
                try:
                    data = tree.read_stat(member.pid)
                except OSError:  # unknown is not gone
                    self._inhabited.update(sid for sid, owner in self._sessions.items() if owner == run)
                    continue
                stat = None if data is None else parse_stat(data)
                if stat is None or stat.start_ticks != member.start_ticks:
                    self._drop(member.pid)
                elif stat.dead:
                    tree.bury(member.pid)
                else:
                    self._note_session(stat, run)

    def _note_session(self, stat: Stat, run: str) -> None:
        self._inhabited.add(stat.session)
        if stat.session == stat.pid:
            self._sessions[stat.session] = run

    def _check_strangers(self) -> None:
        """Read the next slice of known strangers again, so that a reused pid is looked at anew."""
        now_s = self._clock()
        if not self._round:
            self._round = [pid for pid, seen in self._seen.items() if seen.run is None]
            self._round_size = len(self._round)
        part = min(1.0, (now_s - self._checked_s) / FOREIGN_ROUND_S)
        self._checked_s = now_s
        for _ in range(min(len(self._round), math.ceil(part * self._round_size))):
            pid = self._round.pop()
            seen = self._seen.get(pid)
            stat = self._read(pid)
            if (
                stat is not None
                and seen is not None
                and seen.run is None
                and seen.start_ticks != stat.start_ticks
            ):
                del self._seen[pid]

    def _read(self, pid: int) -> Stat | None:
        try:
            return read_stat(self._proc, pid)
        except OSError:
            return None  # looked at again in the next pass

    def _attribute(self, new: Iterable[int]) -> None:
        """Judge processes that are not known yet, parents before their children."""
        fresh = {pid: stat for pid in new if (stat := self._read(pid)) is not None}
        for newest in fresh.values():
            climb: dict[int, Stat] = {}
            at: Stat | None = newest
            while at is not None and at.pid not in self._seen and at.pid not in climb:
                climb[at.pid] = at
                at = fresh.get(at.ppid)
            for oldest in reversed(climb.values()):
                self._judge(oldest, fresh)

    def _judge(self, stat: Stat, fresh: Mapping[int, Stat]) -> None:
        """Make one process a member or a stranger, and look again in the next pass where it is too early."""
        passes = self._undecided.pop(stat.pid, 0)
        run, sure = (None, True) if stat.dead or stat.kernel else self._owner(stat, fresh)
        self._seen[stat.pid] = _Seen(stat.start_ticks, run)
        if run is not None:
            self._trees[run].add(Member(stat.pid, stat.start_ticks))
            self._note_session(stat, run)
        elif not sure and passes < UNDECIDED_PASSES:
            self._undecided[stat.pid] = passes + 1

    def _owner(self, stat: Stat, fresh: Mapping[int, Stat]) -> tuple[str | None, bool]:
        """Find the run that a process belongs to, and tell whether the answer will stay the same."""
        run = self._roots.get(Member(stat.pid, stat.start_ticks))
        parent = self._seen.get(stat.ppid)
        if run is None and parent is not None:
            run = parent.run
        # A new process with the number of the session may be a stranger that took it once that was empty.
        leader = self._seen.get(stat.session)
        taken = leader.run is None if leader is not None else stat.session in fresh
        if run is None and not taken:
            run = self._sessions.get(stat.session)
        if run is not None:
            return run, True
        run, sure = self._by_environment(stat)
        if run is None and (run := self._as_orphan(stat)) is not None:
            return run, True
        unexplained = (parent is None and stat.ppid != 0) or stat.ppid in self._undecided
        return run, sure and not unexplained and (leader is not None or not taken)

    def _as_orphan(self, stat: Stat) -> str | None:
        """Find whose orphan it must be that left session, parent and environment between two passes.

        Only where there is one life that it can come from: among several it is left alone.
        """
        if stat.ppid != self._reaper or stat.session == self._reaper_session:
            return None
        older = [run for run, tree in self._trees.items() if tree.root.start_ticks <= stat.start_ticks]
        return older[0] if len(older) == 1 else None

    def _by_environment(self, stat: Stat) -> tuple[str | None, bool]:
        try:
            environ = read_file(f"{self._proc}/{stat.pid}/environ")
        except PermissionError:
            return None, True
        except OSError:
            return None, False
        if not environ:  # gone, or its execve is under way
            return None, False
        run = value_of(environ, RUN_VARIABLE)
        tree = None if run is None else self._trees.get(run)
        return (run if tree is not None and stat.start_ticks >= tree.root.start_ticks else None), True
