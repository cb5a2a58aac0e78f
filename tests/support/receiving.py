"""A receiver of alerts: a real HTTP server in a thread, which notes what is posted and answers as told."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Received:
    """What came, in order, and how the next posts are answered."""

    def __init__(self) -> None:
        self.answer = 200
        self.location: str | None = None
        self.hold = threading.Event()  # once set, posts are not answered until it is cleared
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.documents: list[Any] = []
        self.port = 0

    @property
    def url(self) -> str:
        """Where to post; its path is a secret."""
        return f"http://127.0.0.1:{self.port}/hooks/hunter2"

    def alerts(self) -> list[tuple[str, str]]:
        """Return name and state of each alert that came in the plain format."""
        return [(one["name"], one["state"]) for document in self.documents for one in document["alerts"]]


@contextlib.contextmanager
def receiving(port: int = 0) -> Generator[Received]:
    """Serve until the end of the block."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.paths.append(self.path)
            received.headers.append({name.lower(): value for name, value in self.headers.items()})
            received.documents.append(json.loads(body))
            while received.hold.is_set():
                time.sleep(0.01)
            with contextlib.suppress(OSError):
                self.send_response(received.answer)
                if received.location is not None:
                    self.send_header("Location", received.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            del format, args

    class Server(ThreadingHTTPServer):
        allow_reuse_address = True

    server = Server(("127.0.0.1", port), Handler)
    received.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield received
    finally:
        received.hold.clear()
        server.shutdown()
        server.server_close()
        thread.join(10)


def until(true: Callable[[], bool], what: str, within_s: float = 20.0) -> None:
    """Wait until something is so."""
    deadline_s = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline_s:
            pytest.fail(f"still not so: {what}")
        time.sleep(0.02)
