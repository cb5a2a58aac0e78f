"""The worker's end of its supervisor's datagram socket: what cannot be sent at once is dropped."""

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from supervisor.guard.events import warn
from supervisor.guard.wire import LARGEST

if TYPE_CHECKING:
    import socket

RECONNECT_S: Final = 1.0  # between two tries, so that a supervisor that is gone costs a system call a second
MOST_MESSAGES: Final = 16  # read at a time

_GONE: Final = frozenset(
    {errno.ECONNREFUSED, errno.ENOENT, errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE, errno.EDESTADDRREQ}
)


# The worker has closed all descriptors, as daemons do, and perhaps opened something else in its place.
_TAKEN: Final = frozenset({errno.EBADF, errno.ENOTSOCK})


class Link:
    """Connects to one path, now and after each loss. It neither blocks nor raises; one thread at a time.

    Its descriptor stays the same while it is open, also over a loss, so that an event loop may watch it.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin unconnected; a path that begins with `@` is one of Linux's abstract names."""
        self._path = path
        self._clock = clock
        self._socket: socket.socket | None = None
        self._connected = False
        self._named = False
        self._tried_s: float | None = None
        self._warned = False
        self.usable: bool = True
        """False from when the path turned out to be none that could ever be connected to."""
        self.dropped: int = 0
        """Messages that could not be sent."""
        self.losses: int = 0
        """How often the other end went away."""

    def send(self, datagram: bytes) -> bool:
        """Send one message, connecting first where needed; return False where it was dropped."""
        for _ in range(2):
            if not self._connected and not self._connect():
                break
            try:
                self._open().send(datagram)
            except OSError as error:
                if error.errno not in _GONE | _TAKEN:
                    break
                self._lose(error)  # and once more: the next supervisor may be there already
            else:
                return True
        self.dropped += 1
        return False

    def receive(self) -> list[bytes]:
        """Return what has come, at most 16 messages; not what came while unconnected: it may be anybody's."""
        received = self._read() if self._socket is not None else []
        return received if self._connected else []

    def fileno(self) -> int:
        """Return the descriptor, readable when something has come; -1 where there is none."""
        if not self._connected:
            self._connect()
        return -1 if self._socket is None else self._socket.fileno()

    def close(self) -> None:
        """Close the socket; the next message opens another."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # EBADF: see _TAKEN
                self._socket.close()
        self._socket, self._connected, self._named, self._tried_s = None, False, False, None

    def _open(self) -> "socket.socket":
        if self._socket is None:
            import socket  # noqa: PLC0415 - 5 ms and 1.5 MiB, which a worker without a supervisor need not pay

            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.settimeout(0)
        return self._socket

    def _connect(self) -> bool:
        now_s = self._clock()
        if not self.usable or (self._tried_s is not None and now_s - self._tried_s < RECONNECT_S):
            return False
        self._tried_s = now_s
        try:
            self._open().connect(self._address())
            if not self._named:  # only now that no stranger can write to it
                self._open().bind(b"")  # Linux picks a name, unix(7): autobind
                self._named = True
        except OSError as error:
            self._refused(error)
            return False
        while self._read():  # what strangers sent to that name while it had no other end
            pass
        self._connected = True
        return True

    def _address(self) -> bytes:
        path = os.fsencode(self._path)
        return b"\0" + path[1:] if path.startswith(b"@") else path

    def _refused(self, error: OSError) -> None:
        """Tell once of what does not pass by itself; EACCES may: a new socket gets its owner a bit later."""
        if error.errno in _TAKEN:
            self._leave_behind()
            return
        if error.errno is None or error.errno == errno.EPROTOTYPE:
            why = error.strerror or str(error)
        elif error.errno == errno.ECONNREFUSED and not self._is_socket():
            why = "it is no socket"
        else:
            if error.errno not in _GONE and not self._warned:
                self._warned = True
                warn("cannot reach the supervisor at %s yet: %s", self._path, error.strerror)
            return
        self.usable = False
        self.close()
        warn("cannot talk to a supervisor at %s: %s; going on alone", self._path, why)

    def _is_socket(self) -> bool:
        if self._path.startswith("@"):
            return True
        try:
            return stat.S_ISSOCK(os.stat(self._path).st_mode)  # noqa: PTH116 - pathlib costs 3 ms at import
        except OSError:
            return True  # gone again: not known

    def _lose(self, error: OSError) -> None:
        self._connected = False
        self.losses += 1
        if error.errno in _TAKEN:
            self._leave_behind()

    def _leave_behind(self) -> None:
        """Let go of a descriptor that is this socket's no longer, without closing what may be another's."""
        if self._socket is not None:
            self._socket.detach()
        self.close()

    def _read(self) -> list[bytes]:
        received: list[bytes] = []
        for _ in range(MOST_MESSAGES):
            try:
                received.append(self._open().recv(LARGEST + 1))
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._lose(error)
                break
        return received
