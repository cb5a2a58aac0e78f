"""Commands that say whether a worker is idle: run as its user, as a part of it, with a deadline."""

import asyncio
import contextlib
import errno
import os
import signal
from typing import Final

from supervisor.act.exits import Ending, reap
from supervisor.act.program import credentials_of, helper_program
from supervisor.act.refusal import CannotLaunchError
from supervisor.act.spawn import Child, spawn
from supervisor.act.worker_logs import WorkerLogs
from supervisor.model.action import Launch

PIDFD_SIGNAL_PROCESS_GROUP: Final = 4  # linux/pidfd.h, since 6.9


class DrainCommands:
    """Runs the commands of workers that are plain processes; see `Commands`.

    Used in the thread of an event loop only.
    """

    def __init__(self, output: WorkerLogs) -> None:
        """Have them write to the logs of their workers."""
        self._output = output
        self._pids: set[int] = set()

    def children(self) -> frozenset[int]:
        """Return the pids of commands that are being waited for."""
        return frozenset(self._pids)

    async def run(self, order: Launch, command: tuple[str, ...], timeout_s: float) -> tuple[bool, str]:
        """Return whether the command exited with 0 in time, and what it did instead."""
        try:
            child = self._spawn(order, command)
        except CannotLaunchError as refusal:
            return False, refusal.why
        except OSError as error:
            return False, f"cannot run {command[0]}: {error.strerror or error}"
        self._pids.add(child.pid)
        try:
            async with asyncio.timeout(timeout_s):
                ending = await _end_of(child.pidfd)
        except TimeoutError:
            return False, f"it did not end within {timeout_s:g} s"
        finally:
            # Without effect on what has ended. What a killed one leaves is reaped as an orphan, and
            # what it left behind carries the worker's marker and ends with it.
            _kill(child.pidfd)
            os.close(child.pidfd)
            self._pids.discard(child.pid)
        return ending.code == 0, told(ending)

    def _spawn(self, order: Launch, command: tuple[str, ...]) -> Child:
        output = self._output.open(order.worker)
        try:
            return spawn(helper_program(order, command, credentials_of(order), output))
        finally:
            os.close(output)


async def _end_of(pidfd: int) -> Ending:
    """Wait for a child, and reap it."""
    await exited(pidfd)
    return reap(pidfd) or Ending()


async def exited(pidfd: int) -> None:
    """Wait until a process has ended; it is not reaped by that."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(pidfd, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(pidfd)


def _kill(pidfd: int) -> None:
    """Send SIGKILL to the process group, or on an older kernel to its leader."""
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL, None, PIDFD_SIGNAL_PROCESS_GROUP)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def told(ending: Ending) -> str:
    """Say how a command ended."""
    if ending.signal is not None:
        named = ending.signal in set(signal.Signals)  # those of real time are not
        return f"it was ended by {signal.Signals(ending.signal).name if named else f'signal {ending.signal}'}"
    return "its status is withheld" if ending.code is None else f"it exited with {ending.code}"
