"""Who may do what with the files of the daemon: modes and owners, never contents."""

import contextlib
import grp
import os
import pwd
import stat
from pathlib import Path
from typing import Literal

from supervisor.cli.diagnose.facts import Access, FileSeen
from supervisor.daemon.places import Places
from supervisor.model.plan import Plan
from supervisor.model.reading import Missing

Role = Literal["control-socket", "config", "environment-file", "state-dir", "log-dir"]


def read_access(socket: Path, config: Path, places: Places, plan: Plan | None) -> Access:
    """Look at every file that the daemon lives by, and at who asks."""
    workers = Plan().workers if plan is None else plan.workers
    environment = {each.environment_file for each in workers.values() if each.environment_file is not None}
    wanted: list[tuple[Role, Path]] = [
        ("control-socket", socket),
        ("config", config),
        *(("environment-file", Path(name)) for name in sorted(environment)),
        ("state-dir", places.state_dir),
        ("log-dir", places.log_dir),
    ]
    groups = dict.fromkeys((os.getegid(), *os.getgroups()))
    return Access(
        user=_user(os.geteuid()),
        groups=tuple(map(_group, groups)),
        files=tuple(_seen(role, path) for role, path in wanted),
    )


def _seen(role: Role, path: Path) -> FileSeen:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return FileSeen(role, str(path), Missing("there is none"), absent=True)
    except OSError as error:
        return FileSeen(role, str(path), Missing(f"cannot look at it: {error.strerror}"))
    return FileSeen(
        role,
        str(path),
        stat.S_IMODE(found.st_mode),
        owner=_user(found.st_uid),
        group=_group(found.st_gid),
        size_bytes=found.st_size,
    )


def _user(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)


def _group(gid: int) -> str:
    with contextlib.suppress(KeyError):
        return grp.getgrgid(gid).gr_name
    return str(gid)
