"""Start one program: its own session, no shell, nothing inherited that was not named."""

import errno
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from supervisor.act.credentials import Credentials
from supervisor.act.inheritance import lower_file_limit, prefer_as_victim, unblocked_signals
from supervisor.act.refusal import PASSING, CannotLaunchError

UMASK: Final = 0o022


class Program(Struct, frozen=True):
    """A program as it shall run; `output` is the descriptor of its stdout and stderr, `feed` of its stdin."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    output: int
    directory: str | None = None
    credentials: Credentials = Credentials()
    feed: int = subprocess.DEVNULL


class Child(Struct, frozen=True):
    """A child of this process that nobody has waited for yet; `pidfd` belongs to whom it is handed."""

    pid: int
    pidfd: int


def spawn(program: Program, file_limits: tuple[int, int] | None = None) -> Child:
    """Start a program and return once it was executed.

    Blocks for fork and exec: 0.1 ms without a change of user (vfork), which needs a fork and so
    0.1 ms for every 8 MiB of the daemon. `file_limits` are the child's, soft and hard. Raises
    CannotLaunchError where nothing was started.
    """
    pid = _start(program)
    # The child cannot have been reaped: nobody but the holder of this pidfd waits for it. Nor are
    # descriptors lacking: Popen has just closed three that it needed on the way.
    pidfd = os.pidfd_open(pid)
    prefer_as_victim(pid)
    if file_limits is not None:
        lower_file_limit(pid, file_limits)
    return Child(pid, pidfd)


def _start(program: Program) -> int:
    whom = program.credentials
    try:
        with unblocked_signals():
            popen = subprocess.Popen(
                program.command,
                stdin=program.feed,
                stdout=program.output,
                stderr=program.output,
                env=program.environment,
                cwd=program.directory,
                user=whom.uid,
                group=whom.gid,
                extra_groups=whom.groups,
                umask=UMASK,
                close_fds=True,
                start_new_session=True,
            )
    except OSError as error:
        raise _refused(program, error) from None
    except ValueError as error:  # a NUL byte in a word or a variable
        raise CannotLaunchError(f"cannot run {program.command[0]}: {error}", hopeless=True) from None
    # We wait through the pidfd. Without a return code, Popen would warn when it is collected and the
    # next Popen would wait for this child itself.
    popen.returncode = 0
    return popen.pid


def _refused(program: Program, error: OSError) -> CannotLaunchError:
    """Put into words why a program does not run; where it is not hopeless, a shortage may pass."""
    name, directory = program.command[0], program.directory
    hopeless = error.errno not in PASSING
    if directory is not None and error.filename == directory and not Path(directory).is_dir():
        return CannotLaunchError(f"cannot run in directory {directory}: there is none", hopeless=hopeless)
    if error.errno == errno.ENOENT:
        why = _not_found(program)
    elif error.errno == errno.EACCES:
        why = "permission denied: it is not executable, or its user may not reach it"
    elif error.errno == errno.ENOEXEC:
        why = "it is neither a binary for this machine nor a script that begins with #!"
    elif error.errno == errno.EAGAIN:
        why = "no more processes are allowed (RLIMIT_NPROC or pids.max)"
    else:
        why = error.strerror or str(error)
    return CannotLaunchError(f"cannot run {name}: {why}", hopeless=hopeless)


def _not_found(program: Program) -> str:
    name = program.command[0]
    path = program.environment.get("PATH")
    if "/" not in name and shutil.which(name, path=path) is None:
        return f"there is no such program in PATH {path}"
    if "/" in name and not Path(program.directory or "", name).exists():
        return "there is no such file"
    return "the interpreter that it names is missing"
