"""Whether pids that the kernel and the driver name are ours: they are those of the initial namespace."""

from pathlib import Path
from typing import Final

# include/linux/proc_ns.h: PROC_PID_INIT_INO, 0xEFFFFFFC.
INITIAL_PID_NAMESPACE: Final = "pid:[4026531836]"


def why_not_ours(proc: Path, who: str) -> str | None:
    """Say why pids that `who` names are not those seen in `proc`; None where they are."""
    try:
        namespace = str((proc / "self/ns/pid").readlink())
    except OSError as error:
        return f"cannot tell whether {who}'s pids are ours: {error.strerror}"
    if namespace == INITIAL_PID_NAMESPACE:
        return None
    return f"{who} names pids of the host, and this is another PID namespace"
