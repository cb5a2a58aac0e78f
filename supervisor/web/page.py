"""One address of the web face, as a value."""

from collections.abc import Awaitable, Callable

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from supervisor.web.site import Site

Handler = Callable[[Site, Request], Awaitable[Response]]


class Query(Struct, frozen=True):
    """One parameter of the query string."""

    name: str
    says: str
    schema: dict[str, object]


class Page(Struct, frozen=True):
    """One address and method; `answer` names a schema of openapi.py, or a media type of what is no JSON."""

    method: str
    path: str
    handler: Handler
    says: str
    answer: str
    status: int = 200
    query: tuple[Query, ...] = ()
    body: str | None = None
    body_needed: bool = False
    open_to_all: bool = False  # without the token as well
    errors: tuple[int, ...] = ()
