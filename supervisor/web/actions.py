"""What is done: wishes for workers, and the session that a browser signs in with."""

from http import HTTPStatus
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from supervisor.web.callers import COOKIE
from supervisor.web.problem import ProblemError
from supervisor.web.site import Site

BODY_BYTES: Final = 16 << 10
ANSWER_S: Final = 5.0
WISHES: Final = ("start", "stop", "restart", "reset")

Body = TypeVar("Body")


class Wished(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of an action; it may be left out."""

    reason: Annotated[str, Meta(max_length=500)] | None = None
    now: bool = False  # do not wait for it to drain


class Login(Struct, frozen=True, forbid_unknown_fields=True):
    """The body that opens a session."""

    token: Annotated[str, Meta(max_length=4096)]


async def act(site: Site, request: Request) -> Response:
    """Hand a wish for one worker to the daemon; 202 says that it was taken, the status shows how it goes."""
    if not site.settings.allow_actions:
        raise ProblemError(HTTPStatus.FORBIDDEN, "actions are switched off: web.allow_actions is false")
    name, wish = request.path_params["name"], request.path_params["wish"]
    if wish not in WISHES:
        raise ProblemError(HTTPStatus.NOT_FOUND, f"workers know no {wish[:100]!r}: {', '.join(WISHES)}")
    wished = await _body(request, Wished, Wished())
    site.actions.take(_client(request))
    await site.wishes.call(
        "Ask",
        ANSWER_S,
        wish=wish,
        workers=[name],
        now=wished.now,
        reason=wished.reason or "",
        on_behalf=_behalf(request),
    )
    return Response(b'{"taken":true}', HTTPStatus.ACCEPTED, media_type="application/json")


async def session(site: Site, request: Request) -> Response:
    """Say whether a token is needed, and whether this caller has shown it."""
    told = {
        "token_needed": site.callers.token_needed,
        "signed_in": site.callers.who(request.headers, request.cookies) is not None,
        "allow_actions": site.settings.allow_actions,
    }
    return Response(msgspec.json.encode(told), media_type="application/json")


async def sign_in(site: Site, request: Request) -> Response:
    """Open a session for whoever knows the token."""
    login = await _body(request, Login, None)
    site.logins.take(_client(request))
    if site.callers.token_needed and not site.callers.is_token(login.token):
        raise ProblemError(HTTPStatus.UNAUTHORIZED, "that is not the token")
    answer = Response(None, HTTPStatus.NO_CONTENT)
    if site.callers.token_needed:
        answer.set_cookie(COOKIE, site.callers.sessions.open(), httponly=True, samesite="strict")
    return answer


async def sign_out(site: Site, request: Request) -> Response:
    """End the caller's session."""
    site.callers.sessions.end(request.cookies.get(COOKIE, ""))
    answer = Response(None, HTTPStatus.NO_CONTENT)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


async def _body(request: Request, kind: type[Body], otherwise: Body | None) -> Body:
    """Read a small JSON document; `otherwise` where there is none."""
    content = bytearray()
    try:
        async for part in request.stream():
            content += part
            if len(content) > BODY_BYTES:
                why = f"a body has {BODY_BYTES} bytes at most"
                raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, why, {"Connection": "close"})
    except ClientDisconnect:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "the caller went away") from None
    if not content and otherwise is not None:
        return otherwise
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body must be application/json")
    try:
        return msgspec.json.decode(bytes(content), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"the body is not understood: {error}") from None


def _client(request: Request) -> str:
    return "unknown" if request.client is None else request.client.host


def _behalf(request: Request) -> str:
    """Say who asks, in the words that the log and the history show."""
    who = request.state.who
    return f"web client {_client(request)}" + (f", {who}" if who else "")
