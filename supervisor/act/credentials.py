"""Whom a worker runs as."""

import grp
import os
import pwd

from msgspec import Struct

from supervisor.act.refusal import CannotLaunchError


class Credentials(Struct, frozen=True):
    """User, group and supplementary groups to change to; None where nothing is changed."""

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None
    name: str | None = None
    home: str | None = None
    shell: str | None = None


def find_credentials(user: str | None, group: str | None) -> Credentials:
    """Look up a user and a group by name or number.

    Raises CannotLaunchError where one does not exist, or where this process may not change to it.
    """
    if user is None and group is None:
        return Credentials()
    entry = None if user is None else _passwd(user)
    gid = _gid(group) if group is not None else entry.pw_gid if entry is not None else None
    if entry is None:
        found = Credentials(gid=gid, groups=None if gid is None else (gid,))
    else:
        gid = entry.pw_gid if gid is None else gid
        groups = tuple(os.getgrouplist(entry.pw_name, gid))
        found = Credentials(entry.pw_uid, gid, groups, entry.pw_name, entry.pw_dir, entry.pw_shell)
    return found if os.geteuid() == 0 else _unchanged(found, user, group)


def _passwd(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise CannotLaunchError(f"cannot run as user {user}: there is no such user", hopeless=True) from None


def _gid(group: str) -> int:
    try:
        return grp.getgrgid(int(group)).gr_gid if group.isdecimal() else grp.getgrnam(group).gr_gid
    except (KeyError, OverflowError):
        raise CannotLaunchError(
            f"cannot run as group {group}: there is no such group", hopeless=True
        ) from None


def _unchanged(wanted: Credentials, user: str | None, group: str | None) -> Credentials:
    """Return no change where this process, which is not root, is already whom it shall become."""
    same_user = wanted.uid is None or wanted.uid == os.geteuid()
    same_group = group is None or wanted.gid == os.getegid()
    if same_user and same_group:
        return Credentials()
    whom = " and ".join(
        part for part in (user and f"user {user}", group and f"group {group}") if part is not None
    )
    raise CannotLaunchError(
        f"cannot run as {whom}: only root may change user and group, and the supervisor runs as uid "
        f"{os.geteuid()}",
        hopeless=True,
    )
