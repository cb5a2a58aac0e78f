"""What is read: the state of everything, the history, the dashboard's files."""

import math
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from supervisor.web import query
from supervisor.web.link import AwayError
from supervisor.web.metrics import CONTENT_TYPE
from supervisor.web.problem import ProblemError
from supervisor.web.site import Site
from supervisor.web.stats import stats_of
from supervisor.web.view import View

JSON: Final = "application/json"
HISTORY_S: Final = 2.0
COURSES_S: Final = 10.0
EVENTS_S: Final = 1.0
HOUR_S: Final = 3600.0
STEP_S: Final = 10.0
LATELY_S: Final = 15.0  # an answer not older than this: the daemon is there
COURSE_SLOTS_MOST: Final = 1000


async def index(site: Site, request: Request) -> Response:
    """Return the dashboard."""
    return _asset(site, request, "index.html")


async def static(site: Site, request: Request) -> Response:
    """Return one of the dashboard's files."""
    return _asset(site, request, request.path_params["path"])


def _asset(site: Site, request: Request, path: str) -> Response:
    asset = site.assets.get(path)
    if asset is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, "there is no such file")
    headers = {"ETag": asset.tag, "Cache-Control": "no-cache"}
    if asset.tag in request.headers.get("if-none-match", ""):
        return Response(None, HTTPStatus.NOT_MODIFIED, headers)
    return Response(asset.content, headers=headers, media_type=asset.media_type)


async def healthz(site: Site, request: Request) -> Response:
    """Say that this process lives."""
    del site, request
    return Response(b'{"alive":true}', media_type=JSON)


async def readyz(site: Site, request: Request) -> Response:
    """Say that the daemon answered lately."""
    del request
    await _lately(site)
    return Response(b'{"ready":true}', media_type=JSON)


async def _lately(site: Site) -> View:
    """Return what is known; AwayError where it is old: an answer that does not tell its age is of now."""
    view = await site.mirror.look()
    age_s = site.now_s() - view.read_s
    if age_s > LATELY_S:
        raise AwayError(f"{view.away or 'the daemon is slow'}, its last answer is {age_s:.0f} s old")
    return view


async def status(site: Site, request: Request) -> Response:
    """Return the whole document, with how old it is."""
    del request
    view = await site.mirror.look()
    return Response(view.body(site.now_s()), media_type=JSON)


async def workers(site: Site, request: Request) -> Response:
    """Return all workers."""
    del request
    view = await _lately(site)
    return _json({"workers": view.status.get("workers", [])})


async def worker(site: Site, request: Request) -> Response:
    """Return one worker."""
    view = await _lately(site)
    return _json(named(view.status, request.path_params["name"]))


def named(status: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the worker of this name; a ProblemError where there is none."""
    for each in status.get("workers", ()):
        if each["name"] == name:
            found: Mapping[str, Any] = each
            return found
    raise ProblemError(HTTPStatus.NOT_FOUND, f"no worker is called {name[:100]!r}")


async def alerts(site: Site, request: Request) -> Response:
    """Return the alerts that the daemon knows of."""
    del request
    return _json({"alerts": list((await _lately(site)).alerts)})


async def stats(site: Site, request: Request) -> Response:
    """Return memory in the shape that monitors of inference servers expect."""
    del request
    return _json(stats_of((await _lately(site)).status))


async def metrics(site: Site, request: Request) -> Response:
    """Return what Prometheus reads; that the daemon is away is told as a metric."""
    del request
    return Response(await site.scrape.page(LATELY_S), headers={"Content-Type": CONTENT_TYPE})


async def incidents(site: Site, request: Request) -> Response:
    """Return incidents, newest first."""
    asked: dict[str, object] = {}
    name, from_s = query.text(request, "worker"), query.since(request, _wall_s())
    if name is not None:
        asked["worker"] = name
    if from_s is not None:
        asked["since_wall_s"] = from_s
    asked["limit"] = query.whole(request, "limit", 1, 1000) or 100
    return _wrapped("incidents", await site.history.ask(HISTORY_S, "Incidents", "incidents", **asked))


async def incident(site: Site, request: Request) -> Response:
    """Return one incident with the readings around it, its timeline and the last lines of log."""
    ident = request.path_params["ident"][:200]
    return Response(await site.history.ask(HISTORY_S, "Incident", "incident", ident=ident), media_type=JSON)


async def samples(site: Site, request: Request) -> Response:
    """Return readings of one worker, or of the host and every GPU, oldest first."""
    from_s = query.since(request, _wall_s())
    asked: dict[str, object] = {"since_wall_s": _wall_s() - HOUR_S if from_s is None else from_s}
    name = query.text(request, "worker")
    if name is not None:
        asked["worker"] = name
    asked["limit"] = query.whole(request, "limit", 1, 10_000) or 1000
    return _wrapped("samples", await site.history.ask(HISTORY_S, "Samples", "samples", **asked))


async def courses(site: Site, request: Request) -> Response:
    """Return the thinned course of every worker, every GPU and the host."""
    now_s = _wall_s()
    from_s = query.since(request, now_s)
    if from_s is None:
        from_s = now_s - HOUR_S
    reach_s = now_s + 2 * STEP_S - from_s
    slot_s = max(query.whole(request, "slot", 1, 86_400) or 60, math.ceil(reach_s / COURSE_SLOTS_MOST))
    found = await site.history.ask(COURSES_S, "Courses", "courses", since_wall_s=from_s, slot_s=slot_s)
    return _wrapped("courses", found)


async def events(site: Site, request: Request) -> Response:
    """Return what was told lately."""
    asked: dict[str, object] = {"limit": query.whole(request, "limit", 1, 500) or 100}
    epoch, after = query.text(request, "epoch"), query.whole(request, "after", 0, 2**53)
    if epoch is not None:
        asked["epoch"] = epoch
    if after is not None:
        asked["after"] = after
    return Response(await site.history.ask(EVENTS_S, "News", "news", **asked), media_type=JSON)


def _wall_s() -> float:
    """Return the time in steps, so that the same span back, asked for again soon, is the same question."""
    return time.time() // STEP_S * STEP_S


def _wrapped(key: str, body: bytes) -> Response:
    return Response(b'{"' + key.encode() + b'":' + body + b"}", media_type=JSON)


def _json(document: object) -> Response:
    return Response(msgspec.json.encode(document), media_type=JSON)
