"""What the command line gives the daemon, and what a reload comes to; light, for both import it."""

from pathlib import Path

from msgspec import Struct


class RunOptions(Struct, frozen=True):
    """The flags of `gpu-supervisor run`. None leaves the choice to the configuration or the system."""

    config: Path | None = None
    launcher: str | None = None
    dry_run: bool = False  # decide and log, touch nothing
    web: bool = False  # the web face beside it, as a process of its own
    record: Path | None = None  # where every turn is written, for `gpu-supervisor replay`


class ReloadResult(Struct, frozen=True):
    """What a reload did, a line each. With anything in `refused` the old plan is still in force."""

    changes: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
