"""The name that all runs of one daemon begin with, kept where it outlives the runtime directory."""

import contextlib
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from supervisor.act.sole import SoleOwner

FILE: Final = "instance"
NAME: Final = re.compile(r"[0-9a-f]{8}")


class Instance:
    """The daemon's hold on its state directory, and the name by which it knows its own workers.

    Processes of workers carry the name. A daemon that has lost all else (its runtime directory is removed
    at the user's logout, or by whoever cleans /tmp) still finds them by it, and starts nothing beside them.
    """

    def __init__(self, directory: Path, warn: Callable[[str], None]) -> None:
        """Take the directory and read the name, or draw one. Raises OSError where another daemon has it.

        Where the directory cannot be used at all, `warn` is told.
        """
        self._path = directory / FILE
        self._warn = warn
        self._owner: SoleOwner | None = None
        self.name = secrets.token_hex(4)
        try:
            self._owner = SoleOwner(directory)
        except BlockingIOError:
            raise
        except OSError as error:  # it cannot be written, or knows no locks: nobody's name is shared then
            warn(f"cannot lock {directory}: {error}; {self._consequence}")
            return
        self.name = self._read() or self.name

    _consequence: Final = "workers cannot be found again if the runtime directory is lost"

    def keep(self, name: str) -> None:
        """Keep the name from now on."""
        self.name = name
        if self._owner is None or self._read() == name:
            return
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_text(name, encoding="ascii")
            fresh.replace(self._path)
        except OSError as error:
            self._warn(f"cannot write {self._path}: {error}; {self._consequence}")

    def close(self) -> None:
        """Give the directory up."""
        if self._owner is not None:
            self._owner.close()

    def _read(self) -> str | None:
        with contextlib.suppress(OSError, ValueError):
            name = self._path.read_text(encoding="ascii")
            return name if NAME.fullmatch(name) else None
        return None
