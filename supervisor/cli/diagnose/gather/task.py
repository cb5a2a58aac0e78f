"""One reading with a deadline: a disk or a driver that hangs is left behind and told as Missing."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from supervisor.model.reading import Missing

T = TypeVar("T")


class Task(Generic[T]):
    """A reading in a thread of its own, under way from the beginning."""

    def __init__(self, what: str, read: Callable[[], T | Missing], within_s: float) -> None:
        """Start `read`, which gets `within_s` from now."""
        self._what = what
        self._within_s = within_s
        self._until_s = time.monotonic() + within_s
        self._read = read
        self._found: T | Missing | None = None
        self._thread = threading.Thread(target=self._run, name=what, daemon=True)
        self._thread.start()

    def result(self) -> T | Missing:
        """Wait for it until its deadline; raises nothing."""
        self._thread.join(max(0.0, self._until_s - time.monotonic()))
        if self._thread.is_alive() or self._found is None:
            return Missing(f"cannot read {self._what}: no answer within {self._within_s:g} s")
        return self._found

    def _run(self) -> None:
        try:
            self._found = self._read()
        except Exception as error:  # noqa: BLE001 - what is broken is what is looked for: the rest is still told
            self._found = Missing(f"cannot read {self._what}: {type(error).__name__}: {error}")
