"""Commands that are told of alerts: no shell, the alert on stdin and in the environment, with a deadline."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, MutableSet
from typing import Final

from msgspec import Struct

from supervisor.act.command import inherited
from supervisor.act.credentials import Credentials
from supervisor.act.drain_command import exited, told
from supervisor.act.exits import Ending, reap
from supervisor.act.refusal import CannotLaunchError
from supervisor.act.spawn import Child, Program, spawn

DEADLINE_S: Final = 30.0
KILLED_WITHIN_S: Final = 5.0  # longer where it hangs in the kernel; it is then reaped as an orphan
_TAIL_BYTES: Final = 4096
_LINE_MOST: Final = 200


class Errand(Struct, frozen=True):
    """A command, and what it is told."""

    command: tuple[str, ...]
    document: bytes
    variables: Mapping[str, str]


async def run(errand: Errand, pids: MutableSet[int], deadline_s: float = DEADLINE_S) -> str | None:
    """Run a command; return None where it exited with 0 in time, else what it did instead.

    Its pid is in `pids` while it is waited for. In the end its process group gets SIGKILL. What it prints is
    dropped; the last line says why it failed. Raises OSError where there is nothing to run it with.
    """
    heard, output = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    tail = bytearray()
    try:
        os.set_blocking(output, True)
        feed = _feed(errand.document)
        try:
            environment = {**inherited(os.environ, Credentials()), **errand.variables}
            child = spawn(Program(errand.command, environment, output, feed=feed))
        finally:
            os.close(feed)
    except CannotLaunchError as refusal:
        os.close(heard)
        return refusal.why
    except OSError:
        os.close(heard)
        raise
    finally:
        os.close(output)
    loop = asyncio.get_running_loop()
    loop.add_reader(heard, _hear, heard, tail, loop)
    pids.add(child.pid)
    try:
        ending = await _end(child, deadline_s)
    finally:
        os.close(child.pidfd)
        pids.discard(child.pid)
        _hear(heard, tail, loop)
        loop.remove_reader(heard)
        os.close(heard)
    if ending is None:
        return f"it did not end within {deadline_s:g} s{_last(tail)}"
    return None if ending.code == 0 else told(ending) + _last(tail)


async def _end(child: Child, deadline_s: float) -> Ending | None:
    """Wait for a child, end its whole process group, and reap it; return None where it came too late."""
    in_time = False
    try:
        async with asyncio.timeout(deadline_s):
            await exited(child.pidfd)
        in_time = True
    except TimeoutError:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            # It is not reaped yet, so its group is no other's.
            os.killpg(child.pid, signal.SIGKILL)
    if not in_time:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILLED_WITHIN_S):
                await exited(child.pidfd)
    ending = reap(child.pidfd) or Ending()
    return ending if in_time else None


def _feed(document: bytes) -> int:
    """Return a descriptor from which the document is read."""
    feed = os.memfd_create("alert", os.MFD_CLOEXEC)
    os.write(feed, document)
    os.lseek(feed, 0, os.SEEK_SET)
    return feed


def _hear(heard: int, tail: bytearray, loop: asyncio.AbstractEventLoop) -> None:
    """Keep the end of what the command prints; once nobody can print any more, listen no longer."""
    try:
        part = os.read(heard, 1 << 16)
    except BlockingIOError:
        return
    if not part:
        loop.remove_reader(heard)
    tail += part
    del tail[:-_TAIL_BYTES]


def _last(tail: bytearray) -> str:
    """Return the last line that is not empty, for showing it behind a sentence."""
    lines = [line for line in tail.decode(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1].strip()[:_LINE_MOST]}" if lines else ""
