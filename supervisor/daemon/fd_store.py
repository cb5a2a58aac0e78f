"""Descriptors that the service manager keeps while one daemon ends and the next begins.

sd_notify(3), FDSTORE=1, and sd_listen_fds(3). What a worker says in between waits in its socket.
"""

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Final

FIRST: Final = 3  # SD_LISTEN_FDS_START
SEND_S: Final = 0.05  # a manager that hangs may not hang us


class FdStore:
    """The manager's store, as far as it keeps anything for this process. Nothing here raises."""

    def __init__(self, environ: Mapping[str, str], pid: int, first: int = FIRST) -> None:
        """Take over what was kept. Without a manager nothing was, and nothing is."""
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._kept: dict[str, int] = {}
        if environ.get("LISTEN_PID") != str(pid):
            return
        names = environ.get("LISTEN_FDNAMES", "").split(":")
        count = environ.get("LISTEN_FDS", "")
        for place in range(int(count) if count.isascii() and count.isdigit() else 0):
            with contextlib.suppress(OSError):
                os.set_inheritable(first + place, False)  # noqa: FBT003 - it is no worker's
                name = names[place] if place < len(names) else ""
                self._discard(self._kept.pop(name, None))
                self._kept[name] = first + place

    def take(self, name: str) -> socket.socket | None:
        """Return the socket that was kept under a name, once; from then on it is the caller's."""
        descriptor = self._kept.pop(name, None)
        try:
            return None if descriptor is None else socket.socket(fileno=descriptor)
        except OSError:  # something else than a socket
            self._discard(descriptor)
            return None

    def keep(self, name: str, kept: socket.socket) -> None:
        """Have a socket kept, under a name without `:`."""
        self._say(f"FDSTORE=1\nFDNAME={name}", kept.fileno())

    def drop(self, name: str) -> None:
        """Have what is kept under a name closed."""
        self._say(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def drop_rest(self) -> None:
        """Close whatever nobody has taken."""
        while self._kept:
            name, descriptor = self._kept.popitem()
            self._discard(descriptor)
            self.drop(name)

    def _discard(self, descriptor: int | None) -> None:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _say(self, state: str, *descriptors: int) -> None:
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        ):
            sender.settimeout(SEND_S)
            sender.connect(address)
            socket.send_fds(sender, [state.encode()], descriptors)
