"""One daemon at a time in a runtime directory."""

import fcntl
import os
import time
from pathlib import Path
from typing import Final

WAIT_S: Final = 0.5


class SoleOwner:
    """A lock on a directory that ends with its process.

    A child holds it as well between fork and exec: once the next daemon has it, every launch of the
    last one has come to its exec or to nothing.
    """

    def __init__(self, directory: Path) -> None:
        """Take the lock, waiting for up to WAIT_S; the directory is made where it is missing.

        Raises OSError where another daemon has it.
        """
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        path = directory / "lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._file = os.fdopen(fd, "wb")
        give_up_s = time.monotonic() + WAIT_S
        while not self._locked():
            if time.monotonic() > give_up_s:
                self._file.close()
                raise BlockingIOError(f"cannot supervise from {directory}: another daemon does")
            time.sleep(0.01)

    def close(self) -> None:
        """Give the directory up."""
        self._file.close()

    def _locked(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
