"""Every address of the web face, once: Starlette's routes and /openapi.json are both made of this table."""

from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from supervisor.web import actions, pages
from supervisor.web.site import Site

Handler = Callable[[Site, Request], Awaitable[Response]]


class Query(Struct, frozen=True):
    """One parameter of the query string."""

    name: str
    says: str
    schema: dict[str, object]


class Page(Struct, frozen=True):
    """One address and method."""

    method: str
    path: str
    handler: Handler
    says: str
    answer: str = "object"  # a schema of openapi.py, or the media type of what is no JSON
    status: int = 200
    query: tuple[Query, ...] = ()
    body: str | None = None
    open_to_all: bool = False  # without the token as well
    changes: bool = False  # something is done: pages of other origins are refused
    errors: tuple[int, ...] = ()


WORKER: Final = Query("worker", "only of this worker", {"type": "string", "minLength": 1, "maxLength": 200})
SINCE: Final = Query(
    "since",
    "Unix seconds, or a span back from now such as `1h`",
    {"type": "string", "pattern": r"^(\d{1,10}(\.\d{1,6})?|\d{1,6}(s|min|h|d))$"},
)


def _limit(most: int) -> Query:
    return Query("limit", "so many at most", {"type": "integer", "minimum": 1, "maximum": most})


AWAY: Final = (503,)

PAGES: Final = (
    Page("GET", "/", pages.index, "The dashboard.", "text/html", open_to_all=True, errors=(404,)),
    Page("GET", "/static/{path:path}", pages.static, "The dashboard's files.", "*/*", open_to_all=True, errors=(404,)),
    Page("GET", "/healthz", pages.healthz, "The web process lives.", open_to_all=True),
    Page("GET", "/readyz", pages.readyz, "The daemon answered lately.", open_to_all=True, errors=AWAY),
    Page("GET", "/api/v1/status", pages.status, "Everything: the document of `status --json`, and `web`: how old it is.", "Status", errors=AWAY),
    Page("GET", "/api/v1/workers", pages.workers, "All workers.", "Workers", errors=AWAY),
    Page("GET", "/api/v1/workers/{name}", pages.worker, "One worker.", "Worker", errors=(404, 503)),
    Page(
        "POST", "/api/v1/workers/{name}/{wish}", actions.act,
        "Start, stop, restart or reset a worker. 202: the daemon has taken it, the status shows how it goes.",
        "Taken", status=202, body="Wished", changes=True, errors=(400, 403, 404, 413, 415, 429, 503),
    ),
    Page(
        "GET", "/api/v1/history", pages.incidents, "Incidents, newest first.", "Incidents",
        query=(WORKER, SINCE, _limit(1000)), errors=(400, 503),
    ),
    Page(
        "GET", "/api/v1/history/{ident}", pages.incident,
        "One incident: its timeline, the readings around it, the last lines of log.", "Incident", errors=(404, 503),
    ),
    Page(
        "GET", "/api/v1/samples", pages.samples, "Readings, oldest first: of a worker, or of the host and the GPUs.", "Samples",
        query=(WORKER, SINCE, _limit(10_000)), errors=(400, 503),
    ),
    Page(
        "GET", "/api/v1/courses", pages.courses, "The thinned course of everything, for small pictures.", "Courses",
        query=(SINCE, Query("slot", "seconds of one value", {"type": "integer", "minimum": 1, "maximum": 86_400})),
        errors=(400, 503),
    ),
    Page("GET", "/api/v1/alerts", pages.alerts, "The alerts that are pending, firing or just resolved.", "Alerts", errors=AWAY),
    Page(
        "GET", "/api/v1/events", pages.events, "What was told lately: notices, and steps of jobs.", "Events",
        query=(
            Query("epoch", "the run of the daemon that `after` counts in", {"type": "string", "minLength": 1, "maxLength": 200}),
            Query("after", "only what came after this number", {"type": "integer", "minimum": 0, "maximum": 2**53}),
            _limit(500),
        ),
        errors=(400, 503),
    ),
    Page("GET", "/api/v1/session", actions.session, "Whether a token is needed, and was shown.", "Session", open_to_all=True),
    Page(
        "POST", "/api/v1/session", actions.sign_in, "Open a session: a cookie instead of the token.", "", status=204,
        body="Login", open_to_all=True, changes=True, errors=(400, 401, 413, 415, 429),
    ),
    Page("DELETE", "/api/v1/session", actions.sign_out, "End the session.", "", status=204, open_to_all=True, changes=True),
    Page("GET", "/stats", pages.stats, "Memory of the machine, and of each worker that reports.", "Stats", errors=AWAY),
)
