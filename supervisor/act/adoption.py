"""Find the lives that an earlier daemon of this boot left running."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from supervisor.act.identity import PROC
from supervisor.act.runs import Run
from supervisor.model.memory import Life
from supervisor.model.snapshot import Identity
from supervisor.sense.forest import Member
from supervisor.sense.procfs import boot_id, read_stat

SETTLE_S: Final = 0.5
"""How long a process may take from fork to exec, where its environment begins to name its run.

Measured: 0.1 ms, 4 ms for a daemon of 300 MB that changes the user.
"""
LOOK_AGAIN_S: Final = 0.02

Marked = Mapping[str, tuple[Member, ...]]


def recorded_identity(life: Life, record: Run | None) -> Identity | None:
    """Return the identity that the daemon remembered or wrote down for a life."""
    if life.identity is not None:
        return life.identity
    return record.identity if record is not None and record.run == life.run else None


def begun_without_identity(lives: Mapping[str, Life], records: Mapping[str, Run]) -> frozenset[str]:
    """Return the runs whose launch was begun, and whose process was never written down."""
    return frozenset(
        life.run
        for worker, life in lives.items()
        if worker in records
        and records[worker].run == life.run
        and recorded_identity(life, records[worker]) is None
    )


def wait_for_marks(marked: Callable[[], Marked], runs: Collection[str]) -> Marked:
    """Look for processes of these runs until each has one, or SETTLE_S have passed; blocks.

    For the time before the loop only.
    """
    give_up_s = time.monotonic() + SETTLE_S
    found: Marked = marked() if runs else {}
    while not set(runs) <= found.keys() and time.monotonic() < give_up_s:
        time.sleep(LOOK_AGAIN_S)
        found = marked()
    return found


def main_process(members: Iterable[Member], proc: Path = PROC) -> Identity | None:
    """Return the main process among those of a run: its oldest session leader, else the oldest.

    A worker is started as the leader of its own session; only processes that come later can lead others.
    """
    stats = [
        stat
        for member in members
        if (stat := read_stat(proc, member.pid)) is not None
        and stat.start_ticks == member.start_ticks
        and not stat.dead
    ]
    if not stats:
        return None
    oldest = min(stats, key=lambda stat: (stat.session != stat.pid, stat.start_ticks, stat.pid))
    return Identity(boot_id(proc), oldest.pid, oldest.start_ticks)
