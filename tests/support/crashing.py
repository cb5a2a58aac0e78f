"""The daemon, killed by SIGKILL at its Nth step that the world can see.

    crashing.py N RUNTIME_DIRECTORY COMMAND-LINE...

A step is a file of the runtime directory that is opened for writing, renamed or removed, or a program
that is started: Python tells each of them to an audit hook just before it happens, so nothing of the
product is changed for the test. What happens between two steps is covered by the one before.
"""

import os
import signal
import sys
from itertools import count

from supervisor.cli.main import main

FILES = {"open", "os.rename", "os.remove"}
PROGRAMS = {"os.posix_spawn", "subprocess.Popen", "_posixsubprocess.fork_exec"}


def crash_at(step: int, directory: str) -> None:
    """Have this process killed at its step number `step`, counted from 1."""
    steps = count(1)

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event in FILES:
            seen = directory in str(arguments[0]) and (event != "open" or _writes(arguments[2]))
        else:
            seen = event in PROGRAMS
        if seen and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def _writes(flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


if __name__ == "__main__":
    crash_at(int(sys.argv[1]), sys.argv[2])
    sys.exit(main(sys.argv[3:]))
