"""Where `top` has its figures from: the control socket, also over a restart of the daemon."""

import time
from contextlib import suppress
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from supervisor.cli.client import Client, connect
from supervisor.cli.command import CommandError
from supervisor.model.course import Course
from supervisor.model.event import Told
from supervisor.model.news import Wish
from supervisor.model.status import Status

HOUR_S: Final = 3600
SLOT_S: Final = 180  # a sparkline of 20 characters
COURSES_EVERY_S: Final = 30.0
FIRST_EVENTS: Final = 50


class Seen(Struct, frozen=True):
    """What is known: the last state, since when it is old and why, and what was told since the last look."""

    status: Status
    courses: dict[str, Course] = {}  # of workers, by name
    events: tuple[Told, ...] = ()
    away: str | None = None
    away_since_s: float = 0.0  # monotonic


class Source:
    """One caller of the daemon, for one screen. `look` is for one thread at a time."""

    def __init__(self, chosen: str | None) -> None:
        """Speak with the daemon that the operator means; connects with the first look."""
        self._chosen = chosen
        self._client: Client | None = None
        self._seen: Seen | None = None
        self._epoch: str | None = None
        self._last = 0
        self._courses_s = 0.0

    def look(self) -> Seen:
        """Ask for everything.

        Once something was seen, a daemon that is away is told in `away`. Before that, raises CommandError.
        """
        try:
            seen = self._look_again()
        except CommandError as error:
            self.close()
            if self._seen is None:
                raise
            since_s = self._seen.away_since_s if self._seen.away is not None else time.monotonic()
            seen = replace(self._seen, events=(), away=str(error), away_since_s=since_s)
        self._seen = seen
        return seen

    def _look_again(self) -> Seen:
        """Look; over a new connection where the one before has broken: the daemon was restarted."""
        if self._client is not None:
            with suppress(CommandError):
                return self._look(time.monotonic())
            self.close()
        return self._look(time.monotonic())

    def _look(self, now_s: float) -> Seen:
        client = self._client = self._client or connect(self._chosen, "show the workers")
        status = client.status()
        first = self._epoch is None
        news = client.news(self._epoch, self._last, FIRST_EVENTS)
        again = news.epoch != self._epoch
        courses = {} if self._seen is None else self._seen.courses
        if first or again or now_s - self._courses_s >= COURSES_EVERY_S:
            found = client.courses(time.time() - HOUR_S, SLOT_S)
            courses = {course.name: course for course in found if course.kind == "worker"}
            self._courses_s = now_s
        self._epoch, self._last = news.epoch, news.last  # only now: what is not shown is asked for again
        return Seen(status, courses, news.events)

    def ask(self, wish: Wish, worker: str) -> None:
        """Ask for something, over a connection of its own. Raises CommandError."""
        client = connect(self._chosen, f"{wish} {worker}")
        try:
            client.ask(wish, (worker,), now=False, reason="asked for in top")
        finally:
            client.close()

    def close(self) -> None:
        """Hang up."""
        if self._client is not None:
            self._client.close()
            self._client = None
