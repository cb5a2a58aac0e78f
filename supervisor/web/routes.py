"""Every address of the web face, once: Starlette's routes and /openapi.json are both made of this table."""

import functools
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from supervisor.web import actions, pages, query
from supervisor.web.openapi import description
from supervisor.web.page import Page, Query
from supervisor.web.site import Site

NAME: Final[dict[str, object]] = {"type": "string", "pattern": f"^{query.NAME}$"}
WORKER: Final = Query("worker", "only of this worker", NAME)
SINCE: Final = Query(
    "since",
    "Unix seconds, or a span back from now such as `1h`",
    {"type": "string", "pattern": f"^({query.MOMENT})$"},
)


def _whole(least: int, most: int) -> dict[str, object]:
    return {"type": "integer", "minimum": least, "maximum": most}


def _limit(most: int) -> Query:
    return Query("limit", "so many at most", _whole(1, most))


AWAY: Final = (503,)
ASKED: Final = (400, 503)
SENT: Final = (400, 413, 415, 429)


async def openapi(site: Site, request: Request) -> Response:
    """Return the description of all this."""
    del site, request
    return Response(_description(), media_type="application/json")


PAGES: Final = (
    Page("GET", "/", pages.index, "The dashboard.", "text/html", open_to_all=True, errors=(404,)),
    Page(
        *("GET", "/static/{path:path}", pages.static, "The dashboard's files.", "*/*"),
        open_to_all=True,
        errors=(404,),
    ),
    Page("GET", "/healthz", pages.healthz, "The web process lives.", "Alive", open_to_all=True),
    Page(
        "GET", "/readyz", pages.readyz, "The daemon answered lately.", "Ready", open_to_all=True, errors=AWAY
    ),
    Page(
        *("GET", "/api/v1/status", pages.status),
        *("Everything: the document of `status --json`, and in `web` how old it is.", "Everything"),
        errors=AWAY,
    ),
    Page("GET", "/api/v1/workers", pages.workers, "All workers.", "Workers", errors=AWAY),
    Page("GET", "/api/v1/workers/{name}", pages.worker, "One worker.", "WorkerStatus", errors=(404, 503)),
    Page(
        *("POST", "/api/v1/workers/{name}/{wish}", actions.act),
        *("Start, stop, restart or reset a worker. It was taken; the status shows how it goes.", "Taken"),
        status=202,
        body="Wished",
        errors=(*SENT, 404, 503),
    ),
    Page(
        *("GET", "/api/v1/history", pages.incidents, "Incidents, newest first.", "Incidents"),
        query=(WORKER, SINCE, _limit(1000)),
        errors=ASKED,
    ),
    Page(
        *("GET", "/api/v1/history/{ident}", pages.incident),
        *("One incident: its timeline, the readings around it, the last lines of log.", "IncidentDetail"),
        errors=(404, 503),
    ),
    Page(
        *("GET", "/api/v1/samples", pages.samples),
        *("Readings, oldest first: of one worker, or of the host and the GPUs.", "Samples"),
        query=(WORKER, SINCE, _limit(10_000)),
        errors=ASKED,
    ),
    Page(
        *("GET", "/api/v1/courses", pages.courses),
        *("The thinned course of everything, for small pictures.", "Courses"),
        query=(
            SINCE,
            Query(
                "slot",
                "seconds of one value; more where a thousand values would not reach",
                _whole(1, 86_400),
            ),
        ),
        errors=ASKED,
    ),
    Page(
        *("GET", "/api/v1/alerts", pages.alerts),
        *("The alerts that are pending, firing or just resolved.", "Alerts"),
        errors=AWAY,
    ),
    Page(
        *("GET", "/api/v1/events", pages.events, "What was told lately: notices, and steps of jobs.", "News"),
        query=(
            Query("epoch", "the run of the daemon that `after` counts in", NAME),
            Query("after", "only what came after this number", _whole(0, 2**53)),
            _limit(500),
        ),
        errors=ASKED,
    ),
    Page(
        *("GET", "/api/v1/session", actions.session, "Whether a token is needed, and was shown.", "Session"),
        open_to_all=True,
    ),
    Page(
        *("POST", "/api/v1/session", actions.sign_in, "Open a session: a cookie instead of the token.", ""),
        status=204,
        body="Login",
        body_needed=True,
        open_to_all=True,
        errors=(*SENT, 401),
    ),
    Page(
        *("DELETE", "/api/v1/session", actions.sign_out, "End the session.", ""), status=204, open_to_all=True
    ),
    Page(
        *("GET", "/stats", pages.stats, "Memory of the machine, and of each worker that reports.", "Stats"),
        errors=AWAY,
    ),
    Page("GET", "/metrics", pages.metrics, "What Prometheus reads.", "text/plain"),
    Page("GET", "/openapi.json", openapi, "This description.", "Description"),
)


@functools.cache
def _description() -> bytes:
    return msgspec.json.encode(description(PAGES))
