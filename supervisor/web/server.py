"""Runs the web face: uvicorn without its ten wake-ups a second, and what has to run beside it."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Final, TextIO

import uvicorn

from supervisor.daemon.service import Service
from supervisor.web.app import application
from supervisor.web.assets import read_assets
from supervisor.web.cache import Cache
from supervisor.web.callers import Callers
from supervisor.web.connection import Watch, protocols
from supervisor.web.gate import HEADER_BYTES
from supervisor.web.link import Link
from supervisor.web.live import Hub
from supervisor.web.mirror import Mirror
from supervisor.web.rate import Rate, RateLimit
from supervisor.web.scrape import Scrape
from supervisor.web.settings import Settings
from supervisor.web.site import Site

ACTIONS_EACH: Final = Rate(10, 1.0)
ACTIONS_ALL: Final = Rate(50, 0.2)
LOGINS_EACH: Final = Rate(10, 3.0)
LOGINS_ALL: Final = Rate(100, 0.1)


class Server(uvicorn.Server):
    """uvicorn that sleeps until it is told to end."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        """Serve as `config` says, and tell the service manager."""
        super().__init__(config)
        self._service = service
        self._told = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self._service.ready()

    async def main_loop(self) -> None:
        """Wait to be told to end."""
        await self._told.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """End at SIGTERM and SIGINT, and exit with 0 then."""
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self.end)
        yield

    def end(self) -> None:
        """Stop serving; the second time without waiting for anybody."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._service.stopping()
        self._told.set()

    def orphaned(self, pipe: int) -> None:
        """End where nothing holds the other end of the pipe any more."""
        if not os.read(pipe, 1024):
            asyncio.get_running_loop().remove_reader(pipe)
            self.end()


async def serve(
    settings: Settings, sockets: Sequence[socket.socket], service: Service, parent: TextIO | None = None
) -> None:
    """Serve until told to end, or until `parent`, a pipe, is closed at its other end."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # garbage from the network is no news
    watch = Watch()
    http, live = protocols(watch)
    async with _site(settings) as site:
        config = uvicorn.Config(
            application(site, watch),
            http=http,
            ws=live,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            ws_max_size=1024,
            ws_per_message_deflate=False,
            ws_ping_interval=30,
            ws_ping_timeout=60,
            h11_max_incomplete_event_size=HEADER_BYTES,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=3,
        )
        server = Server(config, service)
        if parent is not None:
            asyncio.get_running_loop().add_reader(parent.fileno(), server.orphaned, parent.fileno())
        await server.serve(sockets=list(sockets))


@contextlib.asynccontextmanager
async def _site(settings: Settings) -> AsyncGenerator[Site]:
    now_s = time.monotonic
    links = [Link(settings.control, keep=keep) for keep in (True, True, False)]
    mirror = Mirror(links[0], now_s)
    callers = Callers(settings, now_s)
    site = Site(
        settings,
        mirror,
        Hub(mirror, now_s),
        Cache(links[1], now_s),
        Scrape(mirror, now_s),
        links[2],
        callers,
        RateLimit(ACTIONS_EACH, ACTIONS_ALL, now_s),
        RateLimit(LOGINS_EACH, LOGINS_ALL, now_s),
        read_assets(),
        now_s,
    )
    polling = asyncio.create_task(mirror.run())
    try:
        yield site
    finally:
        polling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await polling
        for link in links:
            link.close()
