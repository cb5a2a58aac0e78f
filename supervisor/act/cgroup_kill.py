"""End everything in a cgroup at one stroke."""

import os
from pathlib import Path
from typing import Final

KILL: Final = "cgroup.kill"


def kill_cgroup(cgroup: Path) -> bool:
    """Send SIGKILL to every process of a cgroup and of those below it; return whether it was there.

    One write, and the kernel sees to what forks meanwhile. Raises OSError where it is refused, with
    FileNotFoundError for a kernel older than 5.14, which has no such file.
    """
    try:
        fd = os.open(cgroup / KILL, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if cgroup.is_dir():
            raise
        return False
    try:
        os.write(fd, b"1")
    except OSError as error:
        if cgroup.is_dir():
            raise
        del error  # removed between the two
        return False
    finally:
        os.close(fd)
    return True
