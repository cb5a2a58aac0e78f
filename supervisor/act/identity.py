"""Hold on to exactly one process: by boot, pid and start time once, by pidfd from then on."""

import os
import select
from pathlib import Path

from supervisor.model.snapshot import Identity
from supervisor.sense.procfs import boot_id, read_stat

PROC = Path("/proc")


def identify(pid: int, proc: Path = PROC) -> Identity:
    """Return the identity of a child that was not waited for; raises OSError where /proc hides it."""
    stat = read_stat(proc, pid)
    if stat is None:
        raise OSError(f"cannot identify process {pid}: {proc}/{pid}/stat cannot be read")
    return Identity(boot_id(proc), pid, stat.start_ticks)


def hold(identity: Identity, proc: Path = PROC) -> int | None:
    """Return a new pidfd of exactly this process, or None where it is gone, a zombie or another boot's.

    The pidfd is opened first and the start time read after: if the pid passed to another process in
    between, the start times differ. Raises OSError where that cannot be found out, because neither
    answer would be safe.
    """
    if identity.boot_id != boot_id(proc):
        return None
    return hold_started(identity.pid, identity.start_ticks, proc)


def hold_started(pid: int, start_ticks: int, proc: Path = PROC) -> int | None:
    """Return a new pidfd of the process of this boot that began at `start_ticks`; see `hold`."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        stat = read_stat(proc, pid)
        if stat is not None and stat.start_ticks == start_ticks and not stat.dead:
            return pidfd
        hidden = stat is None and not has_ended(pidfd)
    except BaseException:
        os.close(pidfd)
        raise
    os.close(pidfd)
    if hidden:
        raise OSError(f"cannot identify process {pid}: {proc}/{pid}/stat cannot be read")
    return None


def has_ended(pidfd: int) -> bool:
    """Return whether the process has ended, reaped or not."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
