"""End every process of a tree, also one that multiplies while it is being ended."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from supervisor.act.identity import PROC, hold_started
from supervisor.sense.forest import Member

PASSES: Final = 5  # 5 to 10 ms each among 1,000 processes; the loop asks again in its next turn


def kill_tree(members: Callable[[], Iterable[Member]], proc: Path = PROC) -> int:
    """Send SIGKILL until a look finds no member that did not get it; return how many got it.

    `members` looks afresh. Gives up after PASSES looks, with whatever a fork bomb has made since.
    Raises OSError in the end where a member refused it, or could not be told from another process.
    """
    tried: set[Member] = set()
    refused: list[OSError] = []
    for _ in range(PASSES):
        new = set(members()) - tried
        if not new:
            break
        for member in new:
            try:
                kill_member(member, proc)
            except OSError as error:
                refused.append(error)
        tried |= new
    if refused:
        raise refused[0]
    return len(tried)


def kill_member(member: Member, proc: Path = PROC) -> None:
    """Send SIGKILL to exactly this process; never to ourselves. Raises OSError where it is refused."""
    if member.pid == os.getpid():
        return  # a daemon that was started from within a worker carries the worker's marker
    pidfd = hold_started(member.pid, member.start_ticks, proc)
    if pidfd is None:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)
