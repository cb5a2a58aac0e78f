"""What every request passes before its page: its size, its Host, its Origin, its token."""

import time
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from supervisor.web.callers import Callers
from supervisor.web.connection import Watch
from supervisor.web.problem import ProblemError, problem

HEADERS: Final = 64
HEADER_BYTES: Final = 16 << 10
TARGET_BYTES: Final = 2 << 10
UNSAFE: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
OPEN: Final = frozenset({"/", "/healthz", "/readyz", "/api/v1/session"})
OPEN_BELOW: Final = "/static/"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ALWAYS: Final = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
# Nobody may have this process keep more than it can: the answer is withheld.
NO_ROOM: Final = ((b"content-length", b"0"), (b"connection", b"close"), (b"retry-after", b"5"))


class Gate:
    """Lets requests through to the pages, and sets the headers of every answer."""

    def __init__(self, pages: ASGIApp, callers: Callers, watch: Watch) -> None:
        """Stand before `pages`."""
        self._pages = pages
        self._callers = callers
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self._pages(scope, receive, send)
            return

        answer = _Answer(send, self._watch)
        try:
            self._admit(scope)
        except ProblemError as error:
            if error.status is not HTTPStatus.UNAUTHORIZED:  # it is no browser of ours
                error.headers["Connection"] = "close"
            await problem(error)(scope, receive, answer.send)
            return
        await self._pages(scope, receive, answer.send)

    def _admit(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        _check_size(scope)
        _check_length(headers)
        self._callers.check_host(scope, headers)
        if scope["type"] == "websocket" or scope["method"] in UNSAFE:
            self._callers.check_origin(headers)
        who = self._callers.who(headers, _cookies(headers))
        path: str = scope["path"]
        if who is None and path not in OPEN and not path.startswith(OPEN_BELOW):
            how = {"WWW-Authenticate": "Bearer"}
            raise ProblemError(
                HTTPStatus.UNAUTHORIZED, "the token is needed: Authorization: Bearer TOKEN", how
            )
        scope.setdefault("state", {})["who"] = who or ""


class _Answer:
    """One answer on its way out: it gets the headers of all, and is none where too much lies unread."""

    def __init__(self, send: Send, watch: Watch) -> None:
        self._send = send
        self._watch = watch
        self._withheld = False

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start" and not self._watch.has_room():
            self._withheld = True
            message = {"type": kind, "status": 503, "headers": list(NO_ROOM)}
        elif kind == "http.response.body" and self._withheld:
            message = {"type": kind, "body": b"", "more_body": message.get("more_body", False)}
        if kind in {"http.response.start", "websocket.http.response.start"}:
            message["headers"] = _dressed(list(message.get("headers", [])))
        await self._send(message)


def _check_size(scope: Scope) -> None:
    headers = scope["headers"]
    if len(scope.get("raw_path", b"")) + len(scope["query_string"]) > TARGET_BYTES:
        raise ProblemError(HTTPStatus.REQUEST_URI_TOO_LONG, f"an address has {TARGET_BYTES} bytes at most")
    if len(headers) > HEADERS or sum(len(name) + len(value) for name, value in headers) > HEADER_BYTES:
        why = f"{HEADERS} headers of {HEADER_BYTES} bytes together at most"
        raise ProblemError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, why)


def _check_length(headers: Headers) -> None:
    """Refuse a body whose end is told in two ways: a proxy may believe the other one (RFC 9112, 6.1)."""
    if "transfer-encoding" in headers and "content-length" in headers:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "Content-Length and Transfer-Encoding exclude each other")


def _cookies(headers: Headers) -> Mapping[str, str]:
    return cookie_parser(headers.get("cookie", ""))


def _dressed(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    names = {name for name, _ in headers}
    date = formatdate(time.time(), usegmt=True).encode()
    kept = [] if b"cache-control" in names else [(b"cache-control", b"no-store")]
    return [(b"date", date), *headers, *kept, *ALWAYS]
