"""Gives up what root may: who is asked by browsers needs none of it."""

import contextlib
import os
import pwd
from pathlib import Path
from typing import Final

from supervisor.web.settings import SettingsError

NOBODY: Final = "nobody"
OTHERS_ENTER: Final = 0o001
NICE: Final = 5
SOONER: Final = 200  # thousandths of all memory: as OOMScoreAdjust= of its unit


def stand_back() -> None:
    """Have the daemon whose child this is go first: at the CPU, and last when memory is short."""
    with contextlib.suppress(OSError):
        os.nice(NICE)
    own = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):
        own.write_text(str(min(1000, max(0, int(own.read_text())) + SOONER)))


def give_up_rights(control: Path) -> str | None:
    """Become `nobody`, in the group of the control socket, where this process is root's.

    Returns why root's rights were kept, None where none are left: a socket in a directory that is closed
    to others could not be reached without them. Raises SettingsError where the kernel does not let go.
    """
    if os.getuid() != 0:
        return None
    closed = _closed_to_others(control)
    if closed is not None:
        return f"root's rights are kept: {closed} is closed to others, and the control socket is in it"
    nobody = pwd.getpwnam(NOBODY)
    try:
        os.setgroups([control.stat().st_gid] if control.exists() else [])
        os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
        os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)
    except OSError as error:
        raise SettingsError(
            f"cannot give up root's rights: {error.strerror}; start it as another user, or by its unit"
        ) from error
    return None


def _closed_to_others(control: Path) -> Path | None:
    for folder in control.absolute().parents:
        try:
            if not folder.stat().st_mode & OTHERS_ENTER:
                return folder
        except OSError:  # it is not there yet: whoever makes it says who may enter
            continue
    return None
