"""Where the daemon keeps its sockets, its state, its logs and its configuration."""

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

NAME = "gpu-supervisor"
UNWRITABLE: Final = frozenset({errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO})


class Places(Struct, frozen=True):
    """The directories and files of one daemon."""

    runtime_dir: Path  # gone at the next boot
    state_dir: Path  # kept
    log_dir: Path  # what workers write
    control: Path  # the control socket
    config: Path
    kernel_log: Path = Path("/dev/kmsg")


def find_places(environ: Mapping[str, str], uid: int) -> Places:
    """Work out the places of the user `uid`; looks at nothing but its arguments.

    What systemd sets (RUNTIME_DIRECTORY= and its sisters, systemd.exec(5)) wins; then root has the
    places of the machine and others those of the XDG base directories; then a directory under /tmp.
    """
    home = _absolute(environ, "HOME")
    fallback = Path("/tmp") / f"{NAME}-{uid}"  # noqa: S108 - `make` refuses one that is not our own
    if uid == 0:
        runtime, state, config = Path("/run") / NAME, Path("/var/lib") / NAME, Path("/etc") / NAME
    else:
        runtime = _under(_absolute(environ, "XDG_RUNTIME_DIR"), fallback)
        state = _under(
            _absolute(environ, "XDG_STATE_HOME") or _join(home, ".local/state"), fallback / "state"
        )
        config = _under(_absolute(environ, "XDG_CONFIG_HOME") or _join(home, ".config"), Path("/etc") / NAME)

    runtime = _absolute(environ, "RUNTIME_DIRECTORY") or runtime
    state = _absolute(environ, "STATE_DIRECTORY") or state
    return Places(
        runtime_dir=runtime,
        state_dir=state,
        log_dir=_absolute(environ, "LOGS_DIRECTORY") or state / "logs",
        control=_absolute(environ, "GPU_SUPERVISOR_CONTROL") or runtime / "control",
        config=(_absolute(environ, "CONFIGURATION_DIRECTORY") or config) / "config.yaml",
        # Another log, or a pipe, in its form: for tests, and where a container gets it elsewhere.
        kernel_log=_absolute(environ, "GPU_SUPERVISOR_KERNEL_LOG") or Path("/dev/kmsg"),
    )


def make_places(places: Places, uid: int) -> tuple[str, ...]:
    """Create the directories that are absent: root's runtime one 0755, all others 0700.

    Returns what a disk that takes nothing refuses, in words: without the runtime one nothing works,
    without the others less is kept. Raises OSError where one cannot be made, and PermissionError where
    another user's directory, or a link, stands in a place under /tmp that anyone could have taken first.
    """
    shared = places.runtime_dir.parent == Path("/tmp")  # noqa: S108
    _make(places.runtime_dir, 0o700 if shared or uid != 0 else 0o755)
    if shared:
        _require_own(places.runtime_dir, uid)
    return tuple(why for kept in (places.state_dir, places.log_dir) if (why := _make_kept(kept)))


def _make_kept(directory: Path) -> str | None:
    try:
        _make(directory, 0o700)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        return f"cannot make {directory}: {error.strerror}; nothing is kept there"
    return None


def with_package(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which another Python finds this very package."""
    root = Path(__file__).parents[2]
    if root.name in {"site-packages", "dist-packages"}:  # found anyway, and not to come before the library
        return dict(environ)
    path = os.pathsep.join(filter(None, (str(root), environ.get("PYTHONPATH"))))
    return {**environ, "PYTHONPATH": path}


def _make(directory: Path, mode: int) -> None:
    if directory.is_dir():
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.mkdir(mode=mode, exist_ok=True)


def _require_own(directory: Path, uid: int) -> None:
    seen = os.lstat(directory)
    if not stat.S_ISDIR(seen.st_mode):
        raise PermissionError(f"cannot use {directory}: it is not a directory")
    if seen.st_uid != uid:
        raise PermissionError(f"cannot use {directory}: it belongs to uid {seen.st_uid}, not to {uid}")
    if seen.st_mode & 0o077:
        raise PermissionError(
            f"cannot use {directory}: others may enter it (mode {stat.S_IMODE(seen.st_mode):04o})"
        )


def _absolute(environ: Mapping[str, str], key: str) -> Path | None:
    """Return the first path of a variable; relative ones are ignored, as the XDG specification asks."""
    first = environ.get(key, "").split(":", 1)[0]
    return Path(first) if first.startswith("/") else None


def _join(directory: Path | None, name: str) -> Path | None:
    return None if directory is None else directory / name


def _under(directory: Path | None, fallback: Path) -> Path:
    return fallback if directory is None else directory / NAME
