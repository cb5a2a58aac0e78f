"""The application: the table of routes on Starlette, the WebSocket, and errors as problems."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from supervisor.web.connection import Watch
from supervisor.web.gate import Gate
from supervisor.web.link import AwayError, RefusedError
from supervisor.web.problem import ProblemError, problem
from supervisor.web.routes import PAGES
from supervisor.web.site import Site

LIVE: Final = "/ws"
# What the daemon's errors are in HTTP; all others are the daemon's failure.
REFUSALS: Final = {
    "NoSuchWorker": HTTPStatus.NOT_FOUND,
    "NoSuchIncident": HTTPStatus.NOT_FOUND,
    "org.varlink.service.InvalidParameter": HTTPStatus.BAD_REQUEST,
}


def application(site: Site, watch: Watch) -> ASGIApp:
    """Return the ASGI application of this site."""
    handlers: Any = {
        msgspec.ValidationError: _strange,
        ProblemError: _problem,
        AwayError: _away,
        RefusedError: _refused,
        HTTPException: _http,
    }
    return Gate(Starlette(routes=routes_of(site), exception_handlers=handlers), site.callers, watch)


def routes_of(site: Site) -> list[BaseRoute]:
    """Return Starlette's routes of the table, and the WebSocket's."""
    paths = dict.fromkeys(page.path for page in PAGES)
    return [*(_route(site, path) for path in paths), WebSocketRoute(LIVE, _live(site))]


def _route(site: Site, path: str) -> Route:
    handlers = {page.method: page.handler for page in PAGES if page.path == path}

    async def endpoint(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await handlers[method](site, request)

    return Route(path, endpoint, methods=list(handlers))


def _live(site: Site) -> Callable[[WebSocket], Awaitable[None]]:
    async def endpoint(socket: WebSocket) -> None:
        if site.hub.full:
            full = ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "too many listeners", {"Retry-After": "30"})
            await socket.send_denial_response(problem(full))
            return
        try:
            await site.mirror.look()
        except AwayError as error:
            await socket.send_denial_response(problem(_unavailable(error)))
            return
        await socket.accept()
        headers, cookies = socket.headers, socket.cookies
        await site.hub.listen(
            socket.receive, socket.send, lambda: site.callers.who(headers, cookies) is not None
        )

    return endpoint


async def _problem(_: Request, error: ProblemError) -> Response:
    return problem(error)


def _unavailable(error: AwayError) -> ProblemError:
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, str(error), {"Retry-After": "2"})


async def _away(_: Request, error: AwayError) -> Response:
    return problem(_unavailable(error))


async def _refused(_: Request, error: RefusedError) -> Response:
    status = REFUSALS.get(error.name, HTTPStatus.BAD_GATEWAY)
    if error.name == "NoSuchWorker":
        return problem(ProblemError(status, f"no worker is called {error.told.get('worker')!r}"))
    if error.name == "NoSuchIncident":
        return problem(ProblemError(status, f"no incident is called {error.told.get('ident')!r}"))
    return problem(ProblemError(status, str(error)))


async def _strange(_: Request, error: msgspec.ValidationError) -> Response:
    why = f"the daemon's answer is not understood: {error}"
    return problem(ProblemError(HTTPStatus.BAD_GATEWAY, why))


async def _http(_: Request, error: HTTPException) -> Response:
    status = HTTPStatus(error.status_code)
    words = {404: "there is nothing at this address", 405: "this method is not for this address"}
    return problem(ProblemError(status, words.get(status, error.detail), error.headers))
