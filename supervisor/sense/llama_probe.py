"""Asking a llama.cpp server for its work without disturbing it.

Measured on 0.5.0 and 0.7.0. /slots and /metrics pass through the queue of the server's one working loop:
looked at more often than once a second they keep it from noticing that a client has gone, and a look at
/slots wakes a server that sleeps. /props and /health are answered by the HTTP threads alone, even where
that loop is dead-locked. A router loads the model that it is asked about, unless it is told not to.
"""

import asyncio
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from msgspec import Struct

from supervisor.model.news import Purpose
from supervisor.model.reading import Missing
from supervisor.model.serving import Serving
from supervisor.sense.http_get import Answer, BadAnswerError, get
from supervisor.sense.llama_answers import (
    Props,
    UnreadableError,
    loaded_of,
    metrics_of,
    props_of,
    slots_of,
    together,
)
from supervisor.sense.probes import OK, describe, why_not

BODY_BYTES: Final = 1 << 20  # a busy slot is 3 kB, /props holds the chat template
SPACING_S: Final = 1.1  # from one answer of the queue to the next question: measured, 0.9 s is too soon
HELD_S: Final = 600.0  # one question waits no longer than this for the queue
NOT_IMPLEMENTED: Final = 501
UNAVAILABLE: Final = 503
NEEDS_KEY: Final = frozenset({401, 403})
HTTP_ERRORS: Final = (OSError, BadAnswerError, ValueError)
ASLEEP: Final = Serving("asleep", 0, ())
ROUTER: Final = (
    "it routes between models and serves none: its command names none (--model); "
    "where that is meant, write ready: {http: URL/health}"
)


class Seen(Struct, frozen=True):
    """What came of one look: whether it is good for its purpose, in words, and the server's work."""

    good: bool
    detail: str
    serving: Serving | None = None


class _Server(Struct):
    """One address: when its queue last answered, and the question that it has not answered yet."""

    answered_s: float = -SPACING_S
    question: asyncio.Task[Serving | str] | None = None


class LlamaProbe:
    """Asks llama.cpp servers, each at one time by one question. Used in the thread of its event loop only."""

    def __init__(self) -> None:
        """Begin with no server known."""
        self._servers: dict[str, _Server] = {}

    def close(self) -> None:
        """Let go of the questions that are still open."""
        for server in self._servers.values():
            if server.question is not None:
                server.question.cancel()
        self._servers.clear()

    async def ask(self, url: str, timeout_s: float, purpose: Purpose) -> Seen:
        """Look once; raises nothing.

        Takes `timeout_s` at most, and beyond it the spacing, and half of it again where only /health is left.
        Good for `drain` is idle, for `health` an answer, for `ready` a model that is loaded.
        """
        try:
            if purpose == "ready":
                async with asyncio.timeout(timeout_s):
                    return await _ready(url)
            return await self._look(url, timeout_s, purpose)
        except TimeoutError:
            return Seen(good=False, detail=f"no answer within {timeout_s:g}s")
        except HTTP_ERRORS as error:
            return Seen(good=False, detail=why_not(error))

    async def _look(self, url: str, timeout_s: float, purpose: Purpose) -> Seen:
        by_s = asyncio.get_running_loop().time() + timeout_s
        async with asyncio.timeout_at(by_s):
            props = await get(_beneath(url, "props"), BODY_BYTES)
        told = props_of(props.body) if props.status == OK else Props()
        if told.is_sleeping:
            return Seen(good=True, detail="asleep", serving=ASLEEP)
        if props.status in NEEDS_KEY:
            found: Serving | str = _untold("its slots need an API key")
        elif props.status == UNAVAILABLE:
            found = Serving("loading", Missing(describe(props)), Missing(describe(props)))
        else:
            found = await self._from_queue(url, by_s, router=told.role == "router")
        if isinstance(found, str):
            return Seen(good=False, detail=found)
        alive = props.status == OK or (found.state == "up" and not isinstance(found.busy, Missing))
        if alive or purpose == "drain" or found.state == "loading":
            return _judged(found, purpose)
        async with asyncio.timeout(timeout_s / 2):
            health = await get(_beneath(url, "health"), BODY_BYTES)
        return _judged(found, purpose) if health.status == OK else Seen(good=False, detail=describe(health))

    async def _from_queue(self, url: str, by_s: float, *, router: bool) -> Serving | str:
        """Ask what only the working loop knows; a question that it has not answered stays the only one."""
        clock = asyncio.get_running_loop().time
        server = self._servers.setdefault(url, _Server())
        if server.question is not None and server.question.done():
            server.question = None  # an answer of long ago
        if server.question is None:
            by_s += max(server.answered_s + SPACING_S - clock(), 0.0)
            server.question = asyncio.create_task(self._question(server, url, router=router))
        done, _ = await asyncio.wait({server.question}, timeout=max(by_s - clock(), 0.0))
        if not done:
            why = Missing("its task queue does not answer")
            return Serving("blocked", why, why)
        found, server.question = server.question.result(), None
        return found

    async def _question(self, server: _Server, url: str, *, router: bool) -> Serving | str:
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(max(server.answered_s + SPACING_S - clock(), 0.0))
        try:
            async with asyncio.timeout(HELD_S):
                return await (_routed(url) if router else _work(url))
        except TimeoutError:
            return f"no answer within {HELD_S:g}s"
        except HTTP_ERRORS as error:
            return why_not(error)
        finally:
            server.answered_s = clock()


async def _ready(url: str) -> Seen:
    """Say whether a model is loaded: a router answers 200 from the start, with none."""
    health = await get(_beneath(url, "health"), BODY_BYTES)
    if health.status != OK:
        return Seen(good=False, detail=describe(health))
    props = await get(_beneath(url, "props"), BODY_BYTES)
    if props.status == OK and props_of(props.body).role == "router":
        return Seen(good=False, detail=ROUTER)
    return Seen(good=True, detail="its model is loaded")


async def _routed(url: str) -> Serving | str:
    """Look at each model that a router has loaded, and have it load none."""
    models = await get(_beneath(url, "models"), BODY_BYTES)
    if models.status != OK:
        return describe(models)
    try:
        names = loaded_of(models.body)
    except UnreadableError as error:
        return _untold(why_not(error))
    looks: list[Serving] = []
    for name in names:
        found = await _work(url, name)
        if isinstance(found, str):
            found = _untold(f"model {name}: {found}")  # it may just have been unloaded
        looks.append(found)
    return together(looks)


async def _work(url: str, model: str = "") -> Serving | str:
    """Look at the slots, or where the server was started with --no-slots, at its counters."""
    query = {"model": model, "autoload": "false"} if model else {}
    slots = await get(_beneath(url, "slots", query), BODY_BYTES)
    try:
        if slots.status == OK:
            return slots_of(slots.body, model)
        if slots.status != NOT_IMPLEMENTED:
            return _refused(slots)
        metrics = await get(_beneath(url, "metrics", query), BODY_BYTES)
        if metrics.status == OK:
            return metrics_of(metrics.body, model)
    except UnreadableError as error:
        return _untold(why_not(error))
    if metrics.status != NOT_IMPLEMENTED:
        return _refused(metrics)
    return _untold("it runs with --no-slots and without --metrics")


def _refused(answer: Answer) -> Serving | str:
    if answer.status in NEEDS_KEY:
        return _untold("its slots need an API key")
    if answer.status == UNAVAILABLE:
        return Serving("loading", Missing(describe(answer)), Missing(describe(answer)))
    return describe(answer)


def _untold(why: str) -> Serving:
    return Serving("up", Missing(why), Missing(why))


def _judged(found: Serving, purpose: Purpose) -> Seen:
    if isinstance(found.busy, Missing):
        unknown = f"cannot tell whether it is idle: {found.busy.why}"
        return Seen(purpose != "drain", unknown, found)
    detail = "idle" if found.busy == 0 else f"{found.busy} requests under way"
    return Seen(found.busy == 0 or purpose != "drain", detail, found)


def _beneath(url: str, name: str, query: Mapping[str, str] | None = None) -> str:
    """Return the address of an endpoint; what is written as the URL's own query stays, `query` wins."""
    parts = urlsplit(url)
    asked = parts.query
    if query:
        asked = urlencode({**dict(parse_qsl(parts.query, keep_blank_values=True)), **query})
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}", query=asked, fragment=""))
