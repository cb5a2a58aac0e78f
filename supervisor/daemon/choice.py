"""Which launcher runs the workers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

Kind = Literal["systemd", "direct"]


class Surroundings(Struct, frozen=True):
    """What is around this process, as far as the choice depends on it."""

    systemd_is_init: bool
    cgroups_limit_memory: bool  # cgroup v2, with the controller `memory`
    uid: int
    is_system_service: bool


class CannotChooseError(Exception):
    """The launcher that was asked for cannot work here; the text says why."""


def look_around(environ: Mapping[str, str], uid: int, parent: int, root: Path = Path("/")) -> Surroundings:
    """Look at the machine below `root`; `parent` is the pid of this process' parent.

    PID 1 starts a system's services itself and gives each an INVOCATION_ID; a user's are started by the
    user's own manager.
    """
    try:
        controllers = (root / "sys/fs/cgroup/cgroup.controllers").read_text(encoding="ascii").split()
    except OSError:
        controllers = []
    return Surroundings(
        systemd_is_init=(root / "run/systemd/system").is_dir(),  # as sd_booted(3) tells it
        cgroups_limit_memory="memory" in controllers,
        uid=uid,
        is_system_service=parent == 1 and bool(environ.get("INVOCATION_ID")),
    )


def choose(wanted: str, around: Surroundings) -> Kind:
    """Return the launcher for what is wanted: systemd, direct or auto. Raises CannotChooseError.

    `auto` is systemd in a system service, and direct everywhere else: on a laptop, in a container.
    """
    if wanted == "direct":
        return "direct"
    lacking = _lacking(around)
    if wanted == "systemd":
        if lacking is not None:
            raise CannotChooseError(f"launcher systemd needs {lacking}; use direct or auto")
        return "systemd"
    return "systemd" if lacking is None and around.is_system_service else "direct"


def caution(kind: Kind, around: Surroundings) -> str | None:
    """Say what is odd about a choice; None where nothing is."""
    if kind == "direct" and around.is_system_service:
        return (
            "launcher direct in a system service: workers are in the service's own cgroup, share its"
            " MemoryMax and end with it; launcher auto makes each a service of its own"
        )
    return None


def _lacking(around: Surroundings) -> str | None:
    if not around.systemd_is_init:
        return "systemd as PID 1, which this machine has not"
    if around.uid != 0:
        return f"root, and the supervisor runs as uid {around.uid}"
    if not around.cgroups_limit_memory:
        return "cgroup v2 with the controller memory"
    return None
