"""What the lints know of the machine that the file is for."""

import os

from msgspec import Struct


class Machine(Struct, frozen=True):
    """The machine; None is unknown, and what depends on it is not judged."""

    memory_total_bytes: int | None = None
    cores: int | None = None
    search_path: str | None = None  # PATH


def this_machine() -> Machine:
    """Return what is known of the machine that this runs on."""
    try:
        memory_total_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        memory_total_bytes = 0
    return Machine(memory_total_bytes or None, os.cpu_count(), os.environ.get("PATH", os.defpath))
