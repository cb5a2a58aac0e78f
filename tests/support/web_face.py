"""A real web face as a process, and clients that speak HTTP and WebSocket with it by hand."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, Final, Self

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)

ROOT: Final = Path(__file__).parents[2]
WITHIN_S: Final = 15.0

Document = dict[str, Any]


class Answer:
    """One HTTP response, read whole."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    def json(self) -> Document:
        document: Document = json.loads(self.body)
        return document


class WebFace:
    """`gpu-supervisor web` on a port of its own, in front of the control socket at `control`."""

    def __init__(self, folder: Path, control: Path) -> None:
        self.folder = folder
        self.control = control
        self.output = folder / "web.log"
        self.environment = dict(os.environ)
        self.environment.pop("NOTIFY_SOCKET", None)
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.words: tuple[str, ...] = ("-m", "supervisor.web")  # what `gpu-supervisor web` becomes
        self.listen_flags: tuple[str, ...] = ("--listen", "127.0.0.1:0")

    def command(self, *flags: str) -> list[str]:
        return [sys.executable, *self.words, "--socket", str(self.control), *flags]

    def start(self, *flags: str) -> None:
        wanted = flags if "--listen" in flags else (*self.listen_flags, *flags)
        with self.output.open("wb") as log:
            self.process = subprocess.Popen(
                self.command(*wanted), cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        self.until(lambda: self._listens() is not None, "it listens")
        self.port = self._listens() or 0

    def _listens(self) -> int | None:
        found = re.search(r"http://\S+?:(\d+)/", self.log())
        return None if found is None else int(found[1])

    def log(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace") if self.output.exists() else ""

    def until(self, true: Callable[[], object], what: str, within_s: float = WITHIN_S) -> None:
        deadline_s = time.monotonic() + within_s
        while not true():
            if self.process is not None and self.process.poll() is not None:
                pytest.fail(f"the web face ended ({self.process.returncode}) before {what}:\n{self.log()}")
            if time.monotonic() > deadline_s:
                pytest.fail(f"still not so: {what}\n{self.log()}")
            time.sleep(0.02)

    def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request; a `body` that is not bytes goes as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WITHIN_S)
        told = dict(headers or {})
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if content is not None:
            told.setdefault("Content-Type", "application/json")
        with contextlib.closing(connection):
            connection.request(method, path, content, told)
            return Answer(connection.getresponse())

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers=headers)

    def raw(self) -> socket.socket:
        """Connect as a client that speaks for itself."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=WITHIN_S)

    def listen(self, headers: Mapping[str, str] | None = None, path: str = "/ws") -> "Listener":
        return Listener(self.port, headers or {}, path)

    def rss_bytes(self) -> int:
        assert self.process is not None
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def end(self) -> int:
        """End it as a service manager does; return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@contextlib.contextmanager
def web_face(folder: Path, control: Path, *flags: str) -> Generator[WebFace]:
    """Run a web face until the end of the block."""
    face = WebFace(folder, control)
    try:
        face.start(*flags)
        yield face
    finally:
        if face.process is not None and face.process.poll() is None:
            face.end()


class RefusedListenerError(Exception):
    """The handshake was answered with something else than an upgrade."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class Listener:
    """A WebSocket client that reads when it is told to."""

    def __init__(self, port: int, headers: Mapping[str, str], path: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S)
        self._wire = WSConnection(ConnectionType.CLIENT)
        extra = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._send(Request(host=f"127.0.0.1:{port}", target=path, extra_headers=extra))
        self.closed: CloseConnection | None = None
        self._events: list[Event] = []
        first = self._next()
        if isinstance(first, RejectConnection):
            self.sock.close()
            raise RefusedListenerError(first.status_code)
        assert isinstance(first, AcceptConnection)

    def _send(self, event: Event) -> None:
        self.sock.sendall(self._wire.send(event))

    def send_text(self, text: str) -> None:
        self._send(TextMessage(data=text))

    def ping(self) -> None:
        self._send(Ping(payload=b"there?"))

    def send_bytes(self, content: bytes) -> None:
        self._send(BytesMessage(data=content))

    def _next(self) -> Event:
        while not self._events:
            self._wire.receive_data(self.sock.recv(1 << 16) or None)
            self._events.extend(self._wire.events())
        return self._events.pop(0)

    def message(self) -> Document | None:
        """Return the next message, None once the server has closed; the close is in `closed`."""
        text = ""
        while True:
            event = self._next()
            if isinstance(event, CloseConnection):
                self.closed = event
                return None
            if isinstance(event, TextMessage):
                text += event.data
                if event.message_finished:
                    document: Document = json.loads(text)
                    return document

    def until(self, kind: str) -> Document:
        """Return the next message of this kind, and pass over others."""
        while True:
            found = self.message()
            assert found is not None, f"closed before {kind}: {self.closed}"
            if found["type"] == kind:
                return found

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
