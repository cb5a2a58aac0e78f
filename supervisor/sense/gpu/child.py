"""One helper process as the loop owns it: its pipes, its pidfd, its end. Nothing here waits."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct

# No line comes near this; a helper that writes more without a newline is not ours.
MAX_LINE_BYTES: Final = 1 << 20


class Ended(Struct, frozen=True):
    """How the process ended: an exit code, a signal, or neither where somebody else reaped it."""

    code: int | None = None
    signum: int | None = None

    @property
    def how(self) -> str:
        """Say it in words."""
        if self.signum is not None:
            return signal.strsignal(self.signum) or f"signal {self.signum}"
        return "nobody saw how" if self.code is None else f"exit status {self.code}"


Heard = Callable[["Child", bytes], None]
Gone = Callable[["Child", Ended], None]


class Child:
    """Starts a process and tells, in the loop, each line of its stdout and its end."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], heard: Heard, gone: Gone
    ) -> None:
        """Start `command` in a process group of its own; raises OSError where that cannot be done."""
        self._loop = asyncio.get_running_loop()
        self._heard = heard
        self._gone = gone
        self._unread = b""
        self._stdin, self._stdout, self._pidfd = _spawn(command, environment)
        self._kill_timer: asyncio.TimerHandle | None = None
        self._silenced = False
        os.set_blocking(self._stdin, False)
        os.set_blocking(self._stdout, False)
        self._loop.add_reader(self._stdout, self._read)
        self._loop.add_reader(self._pidfd, self._reap)

    def say(self, line: bytes) -> None:
        """Write one line; where the pipe does not take it, it is lost, and its deadline passes."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._stdin, line)

    def dismiss(self, leave_s: float) -> None:
        """Let it end by itself, and kill it if it has not within `leave_s`."""
        self._silence()
        self._kill_timer = self._loop.call_later(leave_s, self._kill)

    def abandon(self) -> None:
        """Kill it and hear nothing of it but its end, which may never come."""
        self._silence()
        self._kill()

    def release(self) -> None:
        """Forget a process that cannot be killed: the loop is about to end."""
        self._kill()
        self._close()

    def _read(self) -> bool:
        """Take in what there is; return False once there is no more."""
        try:
            data = os.read(self._stdout, 1 << 16)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._stdout)
            return False
        *lines, self._unread = (self._unread + data).split(b"\n")
        if len(self._unread) > MAX_LINE_BYTES:
            lines.append(self._unread)
        for line in lines:
            if self._silenced:  # by what an earlier line led to
                return False
            self._heard(self, line)
        return not self._silenced

    def _reap(self) -> None:
        try:
            result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            ended = Ended()
        else:
            if result is None:
                return
            exited = result.si_code == os.CLD_EXITED
            ended = Ended(code=result.si_status) if exited else Ended(signum=result.si_status)
        while not self._silenced and self._read():  # its last words
            pass
        self._close()
        self._gone(self, ended)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _silence(self) -> None:
        if self._silenced:
            return
        self._silenced = True
        self._loop.remove_reader(self._stdout)
        os.close(self._stdin)
        os.close(self._stdout)

    def _close(self) -> None:
        self._silence()
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)


def _spawn(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, int, int]:
    """Start the process; return our ends of its stdin and stdout, and its pidfd.

    posix_spawn rather than subprocess, which insists on waiting for what it started and
    complains about a process that can never be reaped. A group of its own keeps Ctrl-C away from it.
    """
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        their_stdin, stdin = _pipe(theirs, ours)
        stdout, their_stdout = _pipe(ours, theirs)
        actions = [(os.POSIX_SPAWN_DUP2, their_stdin, 0), (os.POSIX_SPAWN_DUP2, their_stdout, 1)]
        pid = os.posix_spawnp(
            command[0], list(command), dict(environment), file_actions=actions, setpgroup=0, setsigmask=()
        )
        pidfd = os.pidfd_open(pid)
        ours.pop_all()
        return stdin, stdout, pidfd


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """Open a pipe, each end of which is closed with its stack."""
    read, write = os.pipe()
    reader.callback(os.close, read)
    writer.callback(os.close, write)
    return read, write
