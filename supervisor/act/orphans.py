"""Reap the orphans that were re-parented to us, and nothing else that is our child."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from supervisor.sense.procfs import read_stat


def reap_orphans(protected: Collection[int], proc: Path = Path("/proc")) -> int:
    """Reap ended children that nobody else waits for; return how many.

    Spared are `protected` pids and every child in our own session: we or a library of ours forked it
    and wait for it, while an orphan comes out of a worker and so out of another session. One system
    call where nothing has ended.
    """
    reaped = 0
    while (waiting := _ended_child()) is not None:
        pid = waiting if _is_orphan(waiting, protected, proc) else next(_others(protected, proc), None)
        if pid is None or os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is None:
            break
        reaped += 1
    return reaped


def _ended_child() -> int | None:
    """Return the pid of one child that has ended, without reaping it."""
    try:
        status = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if status is None else status.si_pid


def _others(protected: Collection[int], proc: Path) -> Iterator[int]:
    """Yield ended orphans behind a child that is somebody's, which the kernel would name for ever."""
    for task in (proc / "self/task").iterdir():
        try:
            children = (task / "children").read_text().split()
        except OSError:  # a thread that has ended, or a kernel without CONFIG_PROC_CHILDREN
            continue
        for child in map(int, children):
            stat = read_stat(proc, child)
            if stat is not None and stat.state == "Z" and _is_orphan(child, protected, proc):
                yield child


def _is_orphan(pid: int, protected: Collection[int], proc: Path) -> bool:
    stat = read_stat(proc, pid)
    return pid not in protected and stat is not None and stat.session != os.getsid(0)
