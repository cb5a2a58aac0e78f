"""The WebSocket: a snapshot, then what changes, encoded once for all who listen."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from starlette.types import Receive, Send

from supervisor.web.mirror import Mirror, Update, utc_now
from supervisor.web.view import View, changes, merged

CLIENTS: Final = 600
# A daemon tells 500 things at once. All listeners share the texts, so this bounds what is kept for all.
QUEUED: Final = 1500
QUEUED_LETTERS: Final = 8 << 20
HEARTBEAT_S: Final = 5.0
AGES_S: Final = 5.0  # how often it is told that what does not change grew older
TRY_LATER: Final = 1013
SPOKE: Final = 1003
SIGNED_OUT: Final = 1008


class Client:
    """One listener: what was not sent to it yet, and why it is dropped."""

    def __init__(self, may_listen: Callable[[], bool]) -> None:
        """Begin with nothing to send, to one who hears on for as long as it may."""
        self.may_listen = may_listen
        self.waiting: deque[str] = deque()
        self._letters = 0
        self.stirred = asyncio.Event()
        self.dropped: tuple[int, str] | None = None
        self.over = asyncio.Event()

    def put(self, message: str) -> None:
        """Add a message; one that does not fit any more drops the listener."""
        if self.dropped is not None:
            return
        if len(self.waiting) >= QUEUED or self._letters > QUEUED_LETTERS:
            self.drop(TRY_LATER, f"too slow: {len(self.waiting) + 1} messages dropped")
        else:
            self.waiting.append(message)
            self._letters += len(message)
            self.stirred.set()

    def drop(self, code: int, why: str) -> None:
        """Have it closed with this."""
        self.dropped = self.dropped or (code, why)
        self.waiting.clear()
        self.over.set()

    async def next(self) -> str:
        """Wait for the next message."""
        while not self.waiting:
            self.stirred.clear()
            await self.stirred.wait()
        message = self.waiting.popleft()
        self._letters -= len(message)
        return message


class Hub:
    """Tells all listeners what the mirror sees."""

    def __init__(self, mirror: Mirror, now_s: Callable[[], float]) -> None:
        """Follow this mirror."""
        self._mirror = mirror
        self._now_s = now_s
        self._clients: set[Client] = set()
        self._seq = 0
        self._shown: View | None = None  # what every listener has by now
        self._snapshot = ""  # the text of it
        self._aged_s = float("-inf")
        self._beats: asyncio.TimerHandle | None = None
        mirror.told = self._tell

    @property
    def full(self) -> bool:
        """Whether there are as many listeners as there may be."""
        return len(self._clients) >= CLIENTS

    async def listen(self, receive: Receive, send: Send, may_listen: Callable[[], bool]) -> None:
        """Serve one accepted listener until it goes, is dropped, or may listen no more."""
        client = Client(may_listen)
        self._mirror.watch()
        try:
            view = await self._mirror.look()
            self._join(client, view)
            await self._serve(client, receive, send)
        finally:
            self._clients.discard(client)
            self._mirror.unwatch()
            if not self._clients and self._beats is not None:
                self._beats.cancel()
                self._beats = None

    def _join(self, client: Client, view: View) -> None:
        """Begin with a snapshot; from here on the listener has what all have."""
        if not self._clients or self._shown is None:
            self._shown, self._snapshot = view, ""
        if not self._snapshot:
            status = {**self._shown.status, "web": view.web(self._now_s())}
            alerts = self._shown.alerts
            self._snapshot = _text({"type": "snapshot", "seq": self._seq, "status": status, "alerts": alerts})
        client.put(self._snapshot)
        self._clients.add(client)
        if self._beats is None:
            self._beats = asyncio.get_running_loop().call_later(HEARTBEAT_S, self._beat)

    async def _serve(self, client: Client, receive: Receive, send: Send) -> None:
        hearing = asyncio.ensure_future(receive())
        sending = asyncio.create_task(_send_all(client, send))
        dropping = asyncio.create_task(client.over.wait())
        try:
            await asyncio.wait({hearing, sending, dropping}, return_when=asyncio.FIRST_COMPLETED)
            if client.dropped is not None:
                await _close(send, *client.dropped)
            elif hearing.done() and hearing.result()["type"] == "websocket.receive":
                await _close(send, SPOKE, "nothing but pings is listened to")
        finally:
            for task in (hearing, sending, dropping):
                task.cancel()
            await asyncio.gather(hearing, sending, dropping, return_exceptions=True)

    def _tell(self, update: Update) -> None:
        """Tell all what the daemon just told."""
        if not self._clients or self._shown is None:
            self._shown = None
            return
        now_s, old, new = self._now_s(), self._shown, update.view
        if old.away != new.away:
            self._all(self._heartbeat(new))
        ages = now_s - self._aged_s >= AGES_S
        if ages:
            self._aged_s = now_s
        told = changes(old.status, new.status, ages=ages)
        if told:
            self._seq += 1
            head = {**told.get("status", {}), "web": new.web(now_s)}
            self._all({"type": "changes", "seq": self._seq, **told, "status": head})
        if old.alerts != new.alerts:
            self._all({"type": "alerts", "alerts": new.alerts})
        self._shown, self._snapshot = replace(new, status=merged(old.status, new.status, told)), ""
        for event in update.events:
            self._all(_event(event))

    def _beat(self) -> None:
        for client in self._clients:
            if not client.may_listen():
                client.drop(SIGNED_OUT, "the session has ended")
        view = self._mirror.view
        self._beats = asyncio.get_running_loop().call_later(HEARTBEAT_S, self._beat)
        if view is not None:
            self._all(self._heartbeat(view))

    def _heartbeat(self, view: View) -> Mapping[str, Any]:
        web = view.web(self._now_s())
        return {"type": "heartbeat", "at": utc_now(), "stale_s": web["stale_s"], "daemon": web["daemon"]}

    def _all(self, message: Mapping[str, Any]) -> None:
        text = _text(message)
        for client in self._clients:
            client.put(text)


async def _send_all(client: Client, send: Send) -> None:
    while True:
        await send({"type": "websocket.send", "text": await client.next()})


async def _close(send: Send, code: int, reason: str) -> None:
    """Say why it ends; a listener that does not even take that is cut off by the connection's own watch."""
    await send({"type": "websocket.close", "code": code, "reason": reason})


def _event(told: Mapping[str, Any]) -> Mapping[str, Any]:
    if told.get("job") is None:
        return {"type": "event", "event": told}
    return {"type": "job", "worker": told.get("worker"), "job": told["job"], "at": told.get("wall_s")}


def _text(message: Mapping[str, Any]) -> str:
    return msgspec.json.encode(message).decode()
