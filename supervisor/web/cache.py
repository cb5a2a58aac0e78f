"""Answers of the daemon's history, kept for some seconds: a thousand readers cost it one query."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec

from supervisor.web.link import Link
from supervisor.web.problem import ProblemError

KEPT: Final = 64
KEPT_BYTES: Final = 16 << 20
WAITING: Final = 32  # different queries at a time; they are asked one after the other
ANSWER_S: Final = 12.0  # the daemon itself gives its history 10 s


class Cache:
    """Asks one question at a time, each once within its time."""

    def __init__(self, link: Link, now_s: Callable[[], float]) -> None:
        """Ask over `link`."""
        self._link = link
        self._now_s = now_s
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0
        self._asked: dict[str, asyncio.Task[bytes]] = {}

    async def ask(self, for_s: float, method: str, field: str, **parameters: object) -> bytes:
        """Return the JSON of `field` of the answer, `for_s` old at most; raises as Link.call does."""
        key = msgspec.json.encode([method, parameters]).decode()
        kept = self._kept.get(key)
        if kept is not None and self._now_s() - kept[0] < for_s:
            return kept[1]
        task = self._asked.get(key)
        if task is None:
            if len(self._asked) >= WAITING:
                busy = "too many different questions at once"
                raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, busy, {"Retry-After": "2"})
            task = asyncio.create_task(self._ask(key, method, field, parameters))
            self._asked[key] = task
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)

    async def _ask(self, key: str, method: str, field: str, parameters: dict[str, Any]) -> bytes:
        answer = msgspec.json.encode((await self._link.call(method, ANSWER_S, **parameters)).get(field))
        self._keep(key, answer)
        return answer

    def _keep(self, key: str, answer: bytes) -> None:
        old = self._kept.pop(key, None)
        self._bytes += len(answer) - (len(old[1]) if old else 0)
        self._kept[key] = (self._now_s(), answer)
        while self._kept and (len(self._kept) > KEPT or self._bytes > KEPT_BYTES):
            _, (_, dropped) = self._kept.popitem(last=False)
            self._bytes -= len(dropped)

    def _done(self, key: str, task: asyncio.Task[bytes]) -> None:
        self._asked.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever waited has it; nobody else misses it
