"""What this process is to its children, and what they must not inherit from it."""

import contextlib
import ctypes
import os
import resource
import signal
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Final

PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h
PYTHON_IGNORES: Final = frozenset({signal.SIGPIPE, signal.SIGXFSZ})  # subprocess restores these two itself
ABOVE_OURS: Final = 500
"""How much sooner than the daemon a worker is chosen by the kernel's OOM killer.

oom_score_adj is in thousandths of all memory: with 500 a worker outscores any process that uses less
than half of the machine more than it does, so a worker dies before sshd or the daemon, while among
workers the largest still dies first (1000 for all would level them against other 1000s only).
"""


def become_subreaper() -> None:
    """Have orphans of workers re-parented to this process, so that their tree stays visible.

    Raises OSError where the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot become subreaper: {os.strerror(number)}")


def hand_down_default_signals() -> None:
    """Replace ignored signals by handlers that do nothing.

    An ignored signal (nohup, a shell's background job) stays ignored across exec, a handled one is
    reset: workers start with default dispositions and the daemon behaves as before. SIGCHLD is set to
    its default, since ignoring it would lose every exit status.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread may; embedders answer for what they ignore
    for signum in signal.valid_signals() - PYTHON_IGNORES:
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL if signum == signal.SIGCHLD else _do_nothing)


def _do_nothing(_signum: int, _frame: object) -> None:
    """Handle a signal that was ignored."""


@contextlib.contextmanager
def unblocked_signals() -> Generator[None]:
    """Start children with an empty signal mask, which they take over from the thread that starts them."""
    before = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def raise_file_limit() -> tuple[int, int]:
    """Raise this process's limit of open files to the hard one; return the limits for workers.

    A worker costs the daemon two descriptors, and 1,024 is the usual soft limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft, hard


def lower_file_limit(pid: int, limits: tuple[int, int]) -> None:
    """Give a new child the limit of open files that this process had; select() breaks above 1,024."""
    with contextlib.suppress(OSError):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def prefer_as_victim(pid: int, proc: Path = Path("/proc")) -> None:
    """Have the kernel's OOM killer choose this child before the daemon; best effort."""
    with contextlib.suppress(OSError, ValueError):
        mine = int((proc / "self/oom_score_adj").read_text())
        (proc / str(pid) / "oom_score_adj").write_text(str(min(1000, max(mine, 0) + ABOVE_OURS)))
