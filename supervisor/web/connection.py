"""Connections with bounds: how many, how long a request may take to come, how much may lie unread.

uvicorn bounds neither the time in which headers and body have to arrive nor what all clients together
leave unread; its protocols are asked from here how they stand, once a second while there are any.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, cast

import h11
from uvicorn._types import ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from uvicorn.server import ServerState
from wsproto.events import Ping

CONNECTIONS: Final = 1000  # of which WebSockets are 600 at most
REQUEST_S: Final = 10.0  # for headers and body together
READ_S: Final = 20.0  # for what lies in full buffers, or before a connection that is closing
UNSENT_BYTES: Final = 64 << 20  # of all connections together
BUFFER_BYTES: Final = 16 << 10  # of one, before its writer has to wait
SWEEP_S: Final = 1.0

FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n"
)


class Watch:
    """The connections of one server, and what they hold."""

    def __init__(self) -> None:
        """Begin with none."""
        self.open: set[HttpConnection | LiveConnection] = set()
        self.blocked: set[HttpConnection | LiveConnection] = set()  # their client does not read
        self._timer: asyncio.TimerHandle | None = None

    def joined(self, connection: "HttpConnection | LiveConnection") -> None:
        """Look after this one too."""
        self.open.add(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def left(self, connection: "HttpConnection | LiveConnection") -> None:
        """Forget one."""
        self.open.discard(connection)
        self.blocked.discard(connection)

    def has_room(self) -> bool:
        """Return whether what lies unread leaves room for another answer."""
        return sum(each.transport.get_write_buffer_size() for each in self.blocked) < UNSENT_BYTES

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(SWEEP_S, self._sweep) if self.open else None
        for each in tuple(self.open):
            if each.is_overdue(loop.time()):
                each.transport.abort()


class _Patience:
    """Since when a connection waits for what."""

    def __init__(self) -> None:
        self.begun_s: float | None = None  # a request is on its way
        self.blocked_s: float | None = None  # its client does not read
        self.going_s: float | None = None  # it is closing

    def is_over(self, now_s: float, *, closing: bool) -> bool:
        if closing and self.going_s is None:
            self.going_s = now_s
        waits = ((self.begun_s, REQUEST_S), (self.blocked_s, READ_S), (self.going_s, READ_S))
        return any(since_s is not None and now_s - since_s > most_s for since_s, most_s in waits)


class HttpConnection(H11Protocol):
    """One HTTP connection."""

    watch: Watch  # of the server, set by `protocols`

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Take what uvicorn gives."""
        super().__init__(config, server_state, app_state, _loop)
        self._patience = _Patience()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to count the time of the first request; one connection too many gets 503."""
        super().connection_made(transport)
        self.watch.joined(self)
        transport.set_write_buffer_limits(high=BUFFER_BYTES)
        self._patience.begun_s = self.loop.time()
        if len(self.watch.open) > CONNECTIONS:
            transport.write(FULL)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of it."""
        self.watch.left(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take some bytes, unless the connection is going already."""
        if not self.transport.is_closing():
            super().data_received(data)
            self._time()

    def on_response_complete(self) -> None:
        """Look whether the next request has begun."""
        super().on_response_complete()
        self._time()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection on."""
        self.watch.left(self)
        super().handle_websocket_upgrade(event)

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        self._patience.blocked_s = self.loop.time()
        self.watch.blocked.add(self)
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that it does again."""
        self._patience.blocked_s = None
        self.watch.blocked.discard(self)
        super().resume_writing()

    def is_overdue(self, now_s: float) -> bool:
        """Return whether it has had all the time there is."""
        return self._patience.is_over(now_s, closing=self.transport.is_closing())

    def _time(self) -> None:
        """Let the clock run while a part of a request is here."""
        state = self.conn.their_state
        if state is h11.SEND_BODY or (state is h11.IDLE and self.conn.trailing_data[0]):
            self._patience.begun_s = self._patience.begun_s or self.loop.time()
        else:
            self._patience.begun_s = None


class LiveConnection(WSProtocol):
    """One WebSocket."""

    watch: Watch

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Take what uvicorn gives."""
        super().__init__(config, server_state, app_state, _loop)
        self._patience = _Patience()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        self.watch.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of it."""
        self.watch.left(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Note that the client does not read; how long it may is for its queue to say."""
        self.watch.blocked.add(self)
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that it does again."""
        self.watch.blocked.discard(self)
        super().resume_writing()

    def handle_ping(self, event: Ping) -> None:
        """Answer a ping, unless the client only sends and never reads."""
        if self.writable.is_set():
            super().handle_ping(event)
        else:
            self.transport.abort()

    async def send(self, message: ASGISendEvent) -> None:
        """Send a message once the client reads; a close goes at once behind what it has not read."""
        if message["type"] == "websocket.close":
            self.writable.set()
        elif not self.watch.has_room():
            self.transport.abort()
        await super().send(message)

    def is_overdue(self, now_s: float) -> bool:
        """Return whether it should be gone."""
        return self._patience.is_over(now_s, closing=self.transport.is_closing() or self.close_sent)


def protocols(watch: Watch) -> tuple[type[HttpConnection], type[LiveConnection]]:
    """Return the classes of one server's connections: uvicorn makes them, and gives them nothing of ours."""
    members: Mapping[str, object] = {"watch": watch}
    http = type("WatchedHttp", (HttpConnection,), dict(members))
    live = type("WatchedLive", (LiveConnection,), dict(members))
    return cast("type[HttpConnection]", http), cast("type[LiveConnection]", live)
