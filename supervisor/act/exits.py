"""Hear of the end of each main process through its pidfd, and reap those that are our children."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from typing import Final

from msgspec import Struct

TRACED_RETRY_S: Final = 0.1


class Ending(Struct, frozen=True):
    """How a process ended: one of the two, or neither where it was not our child."""

    code: int | None = None
    signal: int | None = None


Ended = Callable[[str, Ending], None]


class Exits:
    """The pidfds of running main processes, by run. Used in the thread of its event loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ended: Ended) -> None:
        """Call `ended` with the run of each process that ends, in the loop."""
        self._loop = loop
        self._ended = ended
        self._pidfds: dict[str, int] = {}

    def watch(self, run: str, pidfd: int) -> None:
        """Watch a process; the pidfd is closed by us."""
        self._pidfds[run] = pidfd
        self._loop.add_reader(pidfd, self._readable, run, pidfd)

    def watching(self, run: str) -> bool:
        """Return whether the end of the run's main process has not been told yet."""
        return run in self._pidfds

    def signal(self, run: str, signum: int) -> None:
        """Send one signal; without effect once the process is gone. Raises OSError where refused."""
        pidfd = self._pidfds.get(run)
        if pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signum)

    def drop(self, run: str) -> None:
        """Watch a process no longer."""
        pidfd = self._pidfds.pop(run, None)
        if pidfd is not None:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)

    def close(self) -> None:
        """Watch nothing any longer."""
        for run in tuple(self._pidfds):
            self.drop(run)

    def _readable(self, run: str, pidfd: int) -> None:
        if self._pidfds.get(run) != pidfd:
            return
        ending = reap(pidfd)
        if ending is None:
            self._loop.remove_reader(pidfd)
            self._loop.call_later(TRACED_RETRY_S, self._again, run, pidfd)
            return
        self.drop(run)
        self._ended(run, ending)

    def _again(self, run: str, pidfd: int) -> None:
        if self._pidfds.get(run) == pidfd:
            self._loop.add_reader(pidfd, self._readable, run, pidfd)


def reap(pidfd: int) -> Ending | None:
    """Wait for an ended process; None where its status is withheld, as it is while another traces it."""
    try:
        status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return Ending()
    if status is None:
        return None
    if status.si_code == os.CLD_EXITED:
        return Ending(code=status.si_status)
    return Ending(signal=status.si_status)
