"""One connection to the control socket: Varlink, with bounds on what a peer may have the daemon keep."""

import asyncio
from collections.abc import Callable

from asyncvarlink import (
    FileDescriptorArray,
    VarlinkInterfaceRegistry,
    VarlinkInterfaceServerProtocol,
    VarlinkMethodCall,
    VarlinkMethodReply,
    VarlinkTransport,
)
from asyncvarlink.types import JSONObject
from msgspec import Struct

from supervisor.daemon.control_interface import Peer, Tell, refusal
from supervisor.model.action import Notice


class Limits(Struct, frozen=True):
    """What the peers of the control socket may have the daemon keep for them."""

    connections: int = 64
    message_bytes: int = 256 << 10  # a wish for 4,000 workers by name
    queued: int = 64  # calls sent ahead of their answers
    unsent: int = 16  # answers that the peer has not read
    idle_s: float = 60.0


class Connection(VarlinkInterfaceServerProtocol):
    """Serves one peer, and cuts it off at the first thing that is not Varlink."""

    def __init__(self, registry: VarlinkInterfaceRegistry, peer: Peer, limits: Limits, tell: Tell) -> None:
        """Serve the interfaces of `registry`."""
        super().__init__(registry)
        self.peer = peer
        self._limits = limits
        self.gone: Callable[[Connection], None] = lambda _: None
        self.tasks: set[asyncio.Future[None]] = set()
        self._tell = tell
        self._wire: VarlinkTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._cut = False
        self._partial_bytes = 0
        self._queued = 0
        self._unsent = 0
        self.last_s = 0.0

    @property
    def busy(self) -> bool:
        """Whether a call is under way or an answer unsent."""
        return bool(self.tasks or self._queued or self._unsent)

    def cut(self, why: str | None = None) -> None:
        """Drop the connection at once, with one line of log where `why` is given."""
        if self._cut:
            return
        self._cut = True
        if why is not None:
            fields = {"pid": self.peer.pid, "uid": self.peer.uid}
            self._tell(Notice(level="warning", event="control connection dropped", reason=why, fields=fields))
        if self._wire is not None:
            self._wire.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to watch for silence."""
        super().connection_made(transport)
        if isinstance(transport, VarlinkTransport):
            self._wire = transport
        if self._cut and self._wire is not None:
            self._wire.abort()
            return
        self._touch()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of it."""
        self._cut = True
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)
        self.gone(self)

    def message_received(self, data: bytes, fds: FileDescriptorArray | None) -> None:
        """Take some bytes; garbage ends the connection and nothing else."""
        if self._cut:
            return
        self._touch()
        whole, end, rest = data.rpartition(b"\0")
        first = len(whole.split(b"\0", 1)[0]) if end else len(rest)
        if self._partial_bytes + first > self._limits.message_bytes:
            self.cut(f"a message of more than {self._limits.message_bytes} bytes")
            return
        self._partial_bytes = len(rest) if end else self._partial_bytes + len(rest)
        self._queued += data.count(b"\0")
        if self._queued > self._limits.queued:
            self.cut(f"more than {self._limits.queued} calls at once")
            return
        try:
            super().message_received(data, fds)
        except (ValueError, RecursionError) as error:  # not UTF-8, too deep, too long a number
            self.cut(f"not Varlink: {type(error).__name__}")

    def error_received(self, err: Exception, data: bytes, fds: FileDescriptorArray | None) -> None:
        """Drop a peer that does not speak JSON."""
        del data, fds
        self.cut(f"not Varlink: {err}")

    def request_received(
        self, obj: JSONObject, fds: FileDescriptorArray | None
    ) -> asyncio.Future[None] | None:
        """Answer one call, unless the peer was dropped meanwhile."""
        self._queued -= 1
        return None if self._cut else super().request_received(obj, fds)

    def call_received(
        self, call: VarlinkMethodCall, fds: FileDescriptorArray | None
    ) -> asyncio.Future[None] | None:
        """Make one call; one that takes time is known until it ends."""
        task: asyncio.Future[None] | None = super().call_received(call, fds)
        if task is not None:
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        return task

    def send_reply(
        self,
        reply: VarlinkMethodReply,
        fds: list[int] | None = None,
        autoclose: bool = True,  # noqa: FBT001, FBT002 - asyncvarlink's signature
    ) -> asyncio.Future[None]:
        """Send one answer; a peer that asks and never reads is dropped."""
        sent = super().send_reply(reply, fds, autoclose)
        self._unsent += 1
        sent.add_done_callback(self._on_sent)
        if self._unsent > self._limits.unsent:
            self.cut(f"more than {self._limits.unsent} answers unread")
        return sent

    def handle_call_exception(self, exc: BaseException, oneway: bool) -> None:  # noqa: FBT001 - the same
        """Answer what the daemon could not do; the loop goes on."""
        why = f"{type(exc).__name__}: {exc}"
        self._tell(Notice(level="error", event="control call failed", reason=why))
        if not oneway:
            self.send_error(refusal("Failed", reason=why))

    def _on_sent(self, _: asyncio.Future[None]) -> None:
        self._unsent -= 1
        self._touch()

    def _touch(self) -> None:
        self.last_s = asyncio.get_running_loop().time()

    def _watch(self) -> None:
        """Drop a peer that was silent for long, or has not read its answer for as long."""
        loop = asyncio.get_running_loop()
        if not self.tasks and loop.time() - self.last_s >= self._limits.idle_s:
            self.cut()
            return
        self._timer = loop.call_later(max(1.0, self.last_s + self._limits.idle_s - loop.time()), self._watch)
