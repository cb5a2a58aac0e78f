"""The connection to systemd, made again whenever it is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from supervisor.systemd.bus import Heard, Systemd, SystemdError

FIRST_RETRY_S: Final = 0.1
LAST_RETRY_S: Final = 5.0


class SystemdLink:
    """Keeps one connection alive. Used in the thread of its event loop only."""

    def __init__(
        self,
        heard: Callable[[Heard], None],
        lost: Callable[[str], None],
        back: Callable[[], Awaitable[None]],
    ) -> None:
        """Hand on what is heard; `lost` is told why a connection went, and `back` follows each new one."""
        self._heard = heard
        self._lost = lost
        self._back = back
        self._systemd: Systemd | None = None
        self._connected = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    @property
    def systemd(self) -> Systemd:
        """Return the connection. Raises SystemdError while there is none."""
        if self._systemd is None:
            raise SystemdError("cannot ask systemd: the connection to the system bus is gone")
        return self._systemd

    @property
    def up(self) -> bool:
        """Tell whether there is a connection."""
        return self._systemd is not None

    async def wait(self) -> None:
        """Wait until there is a connection."""
        await self._connected.wait()

    async def open(self) -> None:
        """Connect for the first time. Raises SystemdError."""
        self._use(await Systemd.connect(self._heard))
        self._keeping = asyncio.create_task(self._keep(self.systemd))

    def close(self) -> None:
        """Connect no more."""
        if self._keeping is not None:
            self._keeping.cancel()
        if self._systemd is not None:
            self._systemd.close()
            self._systemd = None

    async def _keep(self, systemd: Systemd) -> None:
        while True:
            why = await systemd.lost()
            self._systemd = None
            self._connected.clear()
            self._lost(why)
            systemd = await self._again()
            self._use(systemd)
            await self._back()

    def _use(self, systemd: Systemd) -> None:
        self._systemd = systemd
        self._connected.set()

    async def _again(self) -> Systemd:
        wait_s = FIRST_RETRY_S
        while True:
            try:
                return await Systemd.connect(self._heard)
            except SystemdError:
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, LAST_RETRY_S)
