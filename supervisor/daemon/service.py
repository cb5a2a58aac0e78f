"""What the daemon tells the service manager that started it (sd_notify(3)); without one, nothing."""

import os
import time
from collections.abc import Callable, Mapping

import sdnotify


class Service:
    """The daemon as systemd sees it. Nothing here raises; nothing waits longer than 50 ms."""

    def __init__(self, environ: Mapping[str, str], monotonic_s: Callable[[], float] = time.monotonic) -> None:
        """Find the manager's socket in `environ`, which is to be that of the process."""
        self._monotonic_s = monotonic_s
        self._notifier: sdnotify.SystemdNotifier | None = None
        # Made only where it finds its socket: without one it leaves an open one of its own behind.
        if environ.get("NOTIFY_SOCKET"):
            self._notifier = sdnotify.SystemdNotifier()
            if self._notifier.socket is not None:
                self._notifier.socket.settimeout(0.05)  # a manager that hangs may not hang us

    def ready(self) -> None:
        """Say that the daemon has started, or has reloaded its configuration."""
        self._say("READY=1")

    def status(self, text: str) -> None:
        """Show one line in `systemctl status`."""
        self._say(f"STATUS={' '.join(text.split())}")

    def watchdog(self) -> None:
        """Say that a turn of the loop is complete."""
        self._say("WATCHDOG=1")

    def reloading(self) -> None:
        """Say that a reload has begun; `ready` ends it (Type=notify-reload asks for the time)."""
        self._say(f"RELOADING=1\nMONOTONIC_USEC={int(self._monotonic_s() * 1e6)}")

    def stopping(self) -> None:
        """Say that the daemon is ending."""
        self._say("STOPPING=1")

    def extend(self, timeout_s: float) -> None:
        """Ask for `timeout_s` more from now on before a start, a reload or a stop counts as hung."""
        self._say(f"EXTEND_TIMEOUT_USEC={int(timeout_s * 1e6)}")

    def close(self) -> None:
        """Let go of the socket."""
        if self._notifier is not None and self._notifier.socket is not None:
            self._notifier.socket.close()
        self._notifier = None

    def _say(self, state: str) -> None:
        if self._notifier is not None:
            # The package encodes as Latin-1 and drops what that cannot hold; so it is given UTF-8 as such.
            text = state.encode("utf-8", "replace").decode("latin-1")
            self._notifier.notify(text)  # pyright: ignore[reportUnknownMemberType] - it has no types


def watchdog_interval_s(environ: Mapping[str, str], pid: int | None = None) -> float | None:
    """Return how often the watchdog wants to hear: half of WatchdogSec=, as sd_watchdog_enabled(3) advises.

    None where it wants nothing, or means another process.
    """
    usec, meant = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if meant and meant != str(os.getpid() if pid is None else pid):
        return None
    if not (usec.isascii() and usec.isdigit()) or int(usec) == 0:
        return None
    return int(usec) / 2e6
