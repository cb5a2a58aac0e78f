"""What is written down before and after each launch, for the daemon that comes after a crash."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from supervisor.model.snapshot import Identity

MODE: Final = 0o600
LARGEST_BYTES: Final = 65536


class Run(Struct, frozen=True):
    """One life as it was launched; without an identity the launch was begun and nothing more is known."""

    worker: str
    run: str
    identity: Identity | None = None
    output_at: int | None = None  # where in the file of its output its own begins


class Runs:
    """The newest run of each worker, a small file each.

    Written atomically, so that a reader never sees half of one. Not synced: a record matters to the
    next daemon of this boot only, and a crash of the machine ends every worker anyway.
    """

    def __init__(self, directory: Path) -> None:
        """Keep the records in `directory`, which is made where it is missing. Raises OSError."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory

    def write(self, run: Run) -> None:
        """Replace the worker's record. Raises OSError."""
        path = self._path(run.worker)
        fresh = path.with_suffix(".new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode(run))
        fresh.replace(path)

    def read(self, worker: str) -> Run | None:
        """Return the worker's record; None where there is none or it is damaged. Raises OSError."""
        try:
            with self._path(worker).open("rb") as file:
                return msgspec.json.decode(file.read(LARGEST_BYTES), type=Run)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def all(self) -> Mapping[str, Run]:
        """Return every record by worker. Raises OSError."""
        found = {path.stem: self.read(path.stem) for path in sorted(self._directory.glob("*.json"))}
        return {worker: run for worker, run in found.items() if run is not None}

    def remove(self, worker: str, run: str) -> None:
        """Remove the worker's record where it is of this run. Raises OSError."""
        known = self.read(worker)
        if known is not None and known.run == run:
            self._path(worker).unlink(missing_ok=True)

    def _path(self, worker: str) -> Path:
        return self._directory / f"{worker}.json"
