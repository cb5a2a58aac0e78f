"""What comes to the socket of one run: sd_notify's messages, and reports of those who may speak for it."""

import socket
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from supervisor.act.notify_message import merge, parse_notification
from supervisor.act.senders import CREDENTIALS_ROOM, Senders, Verify, sender_of
from supervisor.act.words import Listeners
from supervisor.model.news import Notified, Reported
from supervisor.model.report import Report
from supervisor.sense import reports

LARGEST_MESSAGE: Final = 8192  # bytes; a longer one is ignored as a whole
MESSAGES_A_WAKE: Final = 16


class Callbacks(Struct, frozen=True):
    """Whom a socket speaks to: `tell` takes news, `warn` faults, `verify` knows a run's processes."""

    tell: Callable[[Notified | Reported], None]
    warn: Callable[[str], None]
    verify: Verify


class Ear:
    """The socket of one run, and who is at its other end."""

    def __init__(self, worker: str, run: str, bound: socket.socket, callbacks: Callbacks) -> None:
        """Listen at a socket that is bound and does not block."""
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.worker = worker
        self.run = run
        self.bound = bound
        self.listeners = Listeners(bound)
        self.woken_s = 0.0  # when it was last read
        self._senders = Senders(run, callbacks.verify)
        self._warn = callbacks.warn
        self._report: Report | None = None  # the last one
        self._warned = False

    def hear(self, now_s: float, most: int = MESSAGES_A_WAKE) -> list[Notified | Reported]:
        """Read what has come, `most` messages, and return it as one piece of news of each kind."""
        notified: Notified | None = None
        reported: Reported | None = None
        for _ in range(most):
            received = _receive(self.bound)
            if received is None:
                break
            message, sender, address = received
            if message.startswith(reports.FIRST_BYTE):
                told = self._read_report(message, sender, now_s)
                if told is not None:
                    self.listeners.heard(address)
                    reported = told if reported is None else reports.merge(reported, told)
            elif (said := parse_notification(self.worker, self.run, message)) is not None:
                notified = said if notified is None else merge(notified, said)
        return [news for news in (notified, reported) if news is not None]

    def _read_report(self, message: bytes, sender: int, now_s: float) -> Reported | None:
        if not self._senders.may_speak(sender):
            self._ignore(f"pid {sender} is no process of it" if sender else "its sender cannot be seen")
            return None
        report = reports.read_report(message)
        if isinstance(report, reports.Unread):
            self._ignore(report.why)
            return None
        former, self._report = self._report, report
        beat_s = now_s if report.beat else None
        quiet = reports.is_quiet(former, report)
        return Reported(self.worker, self.run, report, now_s, beat_s, quiet)

    def _ignore(self, why: str) -> None:
        """Say once for a run that something is ignored: it may come a thousand times a second."""
        if not self._warned:
            self._warned = True
            self._warn(f"a report to the socket of {self.worker} is ignored: {why}")


def _receive(bound: socket.socket) -> tuple[bytes, int, object] | None:
    """Return the next message, empty where it was too long, its sender's pid and address; None for none."""
    try:
        message, ancillary, flags, address = bound.recvmsg(LARGEST_MESSAGE, CREDENTIALS_ROOM)
    except (BlockingIOError, InterruptedError):
        return None
    return b"" if flags & socket.MSG_TRUNC else message, sender_of(ancillary), address
