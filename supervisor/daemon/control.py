"""The control socket: accepts operators' connections in the daemon's loop and serves Varlink on each."""

import asyncio
import contextlib
import logging
import socket
from typing import Final

import msgspec
from asyncvarlink import VarlinkInterfaceRegistry, VarlinkTransport
from asyncvarlink.serviceinterface import VarlinkServiceInterface

from supervisor import __version__
from supervisor.daemon.control_connection import Connection, Limits
from supervisor.daemon.control_interface import (
    INTERFACE,
    ControlInterface,
    Desk,
    Peer,
    Tell,
    UnknownWorkerError,
    refusal,
)
from supervisor.daemon.control_socket import (
    AlreadyRunningError,
    ControlSocketError,
    Listening,
    listen,
    peer_of,
)
from supervisor.daemon.options import ReloadResult
from supervisor.model.action import Notice

__all__ = [
    "INTERFACE",
    "AlreadyRunningError",
    "Control",
    "ControlSocketError",
    "Desk",
    "Limits",
    "Listening",
    "Peer",
    "ReloadResult",
    "UnknownWorkerError",
    "listen",
]

ACCEPTS: Final = 16  # in a row, before the loop has its turn again
PAUSE_S: Final = 1.0  # no accepting for so long when the process is out of descriptors
ENDING_S: Final = 1.0  # calls under way may end within this when the daemon does

logging.getLogger("asyncvarlink").addHandler(logging.NullHandler())


class Control:
    """Serves a Desk at a listening socket. Made and used in the running loop."""

    def __init__(self, listening: Listening, desk: Desk, tell: Tell, limits: Limits | None = None) -> None:
        """Take what `listen` made; nothing is accepted before `start`."""
        self._listening = listening
        self._desk = desk
        self._tell = tell
        self._limits = Limits() if limits is None else limits
        self._loop = asyncio.get_running_loop()
        self._connections: set[Connection] = set()
        self._pause: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to accept."""
        self._pause = None
        self._loop.add_reader(self._listening.sock, self._accept)

    async def close(self) -> None:
        """Stop accepting, let calls under way end shortly, drop every connection and remove the socket."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listening.sock)
        self._listening.close()
        under_way = [task for connection in self._connections for task in connection.tasks]
        if under_way:
            await asyncio.wait(under_way, timeout=ENDING_S)
            await asyncio.sleep(0)  # their answers are handed to the sockets
        for connection in tuple(self._connections):
            connection.cut()
        await asyncio.sleep(0)  # the transports tell their connections

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            try:
                sock, _address = self._listening.sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._hold_off(error)
                return
            self._welcome(sock)

    def _hold_off(self, error: OSError) -> None:
        """Out of descriptors: those who wait are served when there are some again."""
        self._loop.remove_reader(self._listening.sock)
        self._pause = self._loop.call_later(PAUSE_S, self.start)
        self._tell(Notice(level="warning", event="control connection not accepted", reason=str(error)))

    def _welcome(self, sock: socket.socket) -> None:
        if len(self._connections) >= self._limits.connections and not self._make_room():
            _turn_away(sock)
            return
        sock.setblocking(False)  # noqa: FBT003 - the socket module's signature
        peer = peer_of(sock)
        connection = Connection(self._registry(peer), peer, self._limits, self._tell)
        connection.gone = self._connections.discard
        self._connections.add(connection)
        # Without boundaries the transport reads once a turn, so that a flood cannot hold the loop.
        VarlinkTransport(self._loop, sock, sock, connection, boundary_predictor=None)

    def _make_room(self) -> bool:
        """Drop the connection that is idle for longest: no crowd of sleepers locks an operator out."""
        idle = [connection for connection in self._connections if not connection.busy]
        if not idle:
            return False
        oldest = min(idle, key=_last)
        oldest.cut()
        self._connections.discard(oldest)
        return True

    def _registry(self, peer: Peer) -> VarlinkInterfaceRegistry:
        registry = VarlinkInterfaceRegistry()
        name = "gpu-supervisor"
        registry.register_interface(VarlinkServiceInterface(name, name, __version__, "", registry))
        registry.register_interface(ControlInterface(self._desk, peer, self._tell))
        return registry


def _last(connection: Connection) -> float:
    return connection.last_s


def _turn_away(sock: socket.socket) -> None:
    """Say why, as far as that goes without waiting."""
    with sock, contextlib.suppress(OSError):
        sock.setblocking(False)  # noqa: FBT003 - the socket module's signature
        reply = refusal("Busy", reason="too many connections, each with a call under way").tojson()
        sock.send(msgspec.json.encode(reply) + b"\0")
