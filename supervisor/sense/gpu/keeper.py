"""Keeps one helper at a time, and lets go of the others without waiting for them."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import supervisor
from supervisor.sense.gpu.child import Child, Ended
from supervisor.sense.gpu.wire import RUN_VARIABLE


class Keeper:
    """Starts helpers and hears the current one alone: its lines, and its end if it was not asked for."""

    def __init__(
        self,
        python: str,
        environment: Mapping[str, str],
        leave_s: float,
        heard: Callable[[bytes], None],
        ended: Callable[[Ended], None],
    ) -> None:
        """Start nothing yet. A dismissed helper is killed after `leave_s`."""
        self.started_s = 0.0  # monotonic, of the current helper
        self._command = (python, "-P", "-m", "supervisor.sense.gpu.helper")
        self._environment = _for_helper(environment)
        self._leave_s = leave_s
        self._on_line = heard
        self._on_end = ended
        self._child: Child | None = None
        self._leaving: set[Child] = set()  # let go, and not dead yet
        self._abandoned: set[Child] = set()  # those of them that were killed while they hung
        self._none_left: asyncio.Event | None = None  # awaited by close

    @property
    def running(self) -> bool:
        """Tell whether there is a current helper."""
        return self._child is not None

    @property
    def stuck(self) -> int:
        """Count the killed helpers that the kernel has not let go of."""
        return len(self._abandoned)

    def start(self) -> None:
        """Start a helper; raises OSError where that cannot be done."""
        self._child = Child(self._command, self._environment, self._heard, self._gone)
        self.started_s = time.monotonic()

    def say(self, line: bytes) -> None:
        """Write one line to the current helper."""
        if self._child is not None:
            self._child.say(line)

    def dismiss(self) -> None:
        """Have the current helper end by itself, which it does between two readings."""
        if self._child is not None:
            self._leaving.add(self._child)
            self._child.dismiss(self._leave_s)
            self._child = None

    def abandon(self) -> None:
        """Kill a current helper that hangs; when it dies is for the kernel to decide."""
        if self._child is not None:
            self._leaving.add(self._child)
            self._abandoned.add(self._child)
            self._child.abandon()
            self._child = None

    async def close(self) -> None:
        """End all of them; what cannot be killed is left behind a second after `leave_s`."""
        self.dismiss()
        if self._leaving:
            self._none_left = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._none_left.wait(), self._leave_s + 1.0)
        for child in self._leaving:
            child.release()
        self._leaving.clear()

    def _heard(self, child: Child, line: bytes) -> None:
        if child is self._child:
            self._on_line(line)

    def _gone(self, child: Child, ended: Ended) -> None:
        self._leaving.discard(child)
        self._abandoned.discard(child)
        if self._none_left is not None and not self._leaving:
            self._none_left.set()
        if child is self._child:
            self._child = None
            self._on_end(ended)


def _for_helper(given: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment without the mark of a worker, and able to import this very package."""
    environment = {key: value for key, value in given.items() if key != RUN_VARIABLE}
    root = Path(supervisor.__file__).parents[1]
    if root.name not in {"site-packages", "dist-packages"}:  # else found anyway, and before the library
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), given.get("PYTHONPATH"))))
    return environment
