"""The control socket's file: nobody reaches it early, and it is never taken from a daemon that lives."""

import errno
import fcntl
import grp
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Final

from supervisor.daemon.control_interface import Peer

BACKLOG: Final = 256
PATH_BYTES: Final = 107  # sun_path holds 108, the last a NUL
UCRED: Final = struct.Struct("3i")


class ControlSocketError(Exception):
    """The control socket cannot be made; the text says why."""


class AlreadyRunningError(ControlSocketError):
    """Another daemon answers at this socket."""


class Listening:
    """A socket that listens, and the lock that keeps a second daemon away from it."""

    def __init__(self, path: Path, sock: socket.socket, lock: int) -> None:
        """Take what `listen` made."""
        self.path = path
        self.sock = sock
        self._lock = lock
        self._inode = path.stat().st_ino

    def close(self) -> None:
        """Stop listening and remove the file, unless it is another's by now; once is enough."""
        if self.sock.fileno() < 0:
            return
        self.sock.close()
        try:
            if self.path.lstat().st_ino == self._inode:
                self.path.unlink()
        except OSError:
            pass  # it is gone, or cannot be removed: the next daemon replaces it
        os.close(self._lock)


def listen(path: Path, *, mode: int = 0o660, group: str | None = None) -> Listening:
    """Listen at `path` with `mode`, given to `group`.

    Call it before anything is done to a worker: AlreadyRunningError says that the workers are another
    daemon's. ControlSocketError names every other obstacle.
    """
    if len(os.fsencode(path)) > PATH_BYTES:
        raise ControlSocketError(f"cannot listen on {path}: a socket's path has {PATH_BYTES} bytes at most")
    gid = _gid(path, group)
    try:
        lock = _lock(path)
    except OSError as error:
        raise ControlSocketError(f"cannot listen on {path}: {error.strerror}") from error
    try:
        _clear(path)
        return Listening(path, _bound(path, mode, gid), lock)
    except OSError as error:
        os.close(lock)
        raise ControlSocketError(f"cannot listen on {path}: {error.strerror}") from error
    except ControlSocketError:
        os.close(lock)
        raise


def peer_of(sock: socket.socket) -> Peer:
    """Return who is at the other end; for a client's socket, who listens there."""
    pid, uid, gid = UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
    return Peer(pid=pid, uid=uid, gid=gid)


def _gid(path: Path, group: str | None) -> int | None:
    if group is None:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ControlSocketError(f"cannot give {path} to group {group!r}: there is no such group") from None


def _lock(path: Path) -> int:
    """Hold the lock beside the socket for life; two daemons that start at once meet here."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
        os.close(lock)
        raise AlreadyRunningError(f"another gpu-supervisor is running, pid {holder or 'unknown'}") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _clear(path: Path) -> None:
    """Remove what a dead daemon left at `path`; refuse to remove what lives or is no socket."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise ControlSocketError(f"cannot listen on {path}: there is something that is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        failed = probe.connect_ex(os.fspath(path))
        if failed in (0, errno.EAGAIN):  # EAGAIN: it lives, with a full backlog
            pid = peer_of(probe).pid if failed == 0 else "unknown"
            raise AlreadyRunningError(f"another gpu-supervisor is running, pid {pid}")
    path.unlink()


def _bound(path: Path, mode: int, gid: int | None) -> socket.socket:
    """Bind and listen; the file has its owner and mode before anyone can connect, whatever the umask."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        os.fchmod(sock.fileno(), 0o600)  # Linux gives the file that bind() makes the mode of the socket
        sock.bind(os.fspath(path))
        if gid is not None:
            os.chown(path, -1, gid)
        path.chmod(mode)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
