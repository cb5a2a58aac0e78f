"""`run --web`: keeps the web face beside the daemon, as a process of its own. Only `close` waits."""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from supervisor.daemon.places import with_package
from supervisor.model.action import Notice
from supervisor.model.plan import WebPlan
from supervisor.sense.gpu.child import Child, Ended

LEAVE_S: Final = 5.0  # it gives its own clients 3
FIRST_S: Final = 1.0
LONGEST_S: Final = 60.0
GOOD_S: Final = 60.0  # one that ran for so long was well
CONFIG_IS_WRONG: Final = 78
# The service manager's words are for the daemon.
NOT_HANDED_ON: Final = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}
)


class WebChild:
    """The web face of one daemon: started, started again when it ends, and ended with the daemon."""

    def __init__(self, control: Path, tell: Callable[[Notice], None]) -> None:
        """Start nothing yet; the web face is to speak with the daemon at `control`."""
        self._tell = tell
        words = ("--socket", str(control), "--child")  # what `gpu-supervisor web` becomes
        self._command = (sys.executable, "-P", "-m", "supervisor.web", *words)
        self._child: Child | None = None
        self._plan: WebPlan | None = None
        self._again: asyncio.TimerHandle | None = None
        self._pause_s = FIRST_S
        self._started_s = 0.0
        self._ending: asyncio.Event | None = None
        self._replacing = False

    def follow(self, plan: WebPlan) -> None:
        """Have a web face run that is configured so: the first call starts it, another plan replaces it."""
        if plan == self._plan or self._ending is not None:
            return
        self._plan, self._pause_s = plan, FIRST_S
        if self._child is None:
            self._start()
        else:
            self._replacing = True
            self._child.dismiss(LEAVE_S)

    async def close(self) -> None:
        """End it; what does not end within some seconds is killed."""
        self._ending = ended = asyncio.Event()
        if self._again is not None:
            self._again.cancel()
        child = self._child
        if child is None:
            return
        if not self._replacing:
            child.dismiss(LEAVE_S)
        try:
            await asyncio.wait_for(ended.wait(), LEAVE_S + 1.0)
        except TimeoutError:
            child.release()

    def _start(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._started_s = time.monotonic()
        mine = {key: value for key, value in os.environ.items() if key not in NOT_HANDED_ON}
        environment = with_package(mine)
        try:
            self._child = Child(self._command, environment, self._heard, self._gone)
        except OSError as error:
            self._later(f"cannot be started: {error.strerror}")

    def _heard(self, child: Child, line: bytes) -> None:
        del child
        text = line.decode("utf-8", "replace").strip().removeprefix("gpu-supervisor: ")
        self._tell(Notice("info", "web face", text))

    def _gone(self, child: Child, ended: Ended) -> None:
        del child
        self._child = None
        if self._ending is not None:
            self._ending.set()
        elif self._replacing:
            self._replacing = False
            self._start()
        elif ended.code == CONFIG_IS_WRONG:
            text = "its settings cannot be used; it is started again when they change"
            self._tell(Notice("error", "web face ended", text))
        else:
            if time.monotonic() - self._started_s >= GOOD_S:
                self._pause_s = FIRST_S
            self._later(f"it ended: {ended.how}")

    def _later(self, why: str) -> None:
        self._tell(Notice("warning", "web face ended", f"{why}; again in {self._pause_s:g} s"))
        self._again = asyncio.get_running_loop().call_later(self._pause_s, self._start)
        self._pause_s = min(LONGEST_S, 2 * self._pause_s)
