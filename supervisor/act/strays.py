"""Processes that are provably ours and that nobody remembers: the memory of the last daemon was lost."""

import os
from collections.abc import Collection, Mapping

from supervisor.act.identity import hold
from supervisor.act.runs import Run
from supervisor.sense.forest import Forest, Member


def find_strays(
    forest: Forest, records: Mapping[str, Run], instance: str, known: Collection[str]
) -> Mapping[str, tuple[Member, ...]]:
    """Return the live processes of runs outside of `known`, by run.

    Proof is a marker in their environment that begins with this instance's name or is in our records,
    or an identity in our records. What only looks like a worker is left alone. Raises OSError.
    """
    recorded = {record.run: record for record in records.values()}
    found = {
        run: tuple(member for member in members if member.pid != os.getpid())
        for run, members in forest.marked().items()
        if run not in known and (run in recorded or run.startswith(f"{instance}-"))
    }
    for run, record in recorded.items():
        member = None if run in known else _living(record)
        if member is not None and member not in found.get(run, ()):
            found[run] = (member, *found.get(run, ()))
    return {run: members for run, members in found.items() if members}


def _living(record: Run) -> Member | None:
    """Return the recorded main process while it lives; it may have overwritten its environment."""
    pidfd = None if record.identity is None else hold(record.identity)
    if pidfd is None or record.identity is None:
        return None
    os.close(pidfd)
    return Member(record.identity.pid, record.identity.start_ticks)
