"""What a worker says through sd_notify: the part of the protocol that is acted on."""

from typing import Final

from supervisor.model.news import Notified

STATUS_CHARACTERS: Final = 200
LONGEST_NUMBER: Final = 20  # digits of the largest 64-bit number
LONGEST_EXTENSION_S: Final = 86400.0  # beyond a day it is a mistake, or a way to hang unseen


def parse_notification(worker: str, run: str, message: bytes) -> Notified | None:
    """Return what one datagram says, or None where nothing in it is known.

    The form is that of sd_notify(3): lines of KEY=value. A later line wins; broken ones are ignored.
    """
    said = dict(_assignments(message))
    notified = Notified(
        worker=worker,
        run=run,
        ready=said.get("READY") == "1",
        stopping=said.get("STOPPING") == "1",
        watchdog=said.get("WATCHDOG") == "1",
        trigger=said.get("WATCHDOG") == "trigger",
        extend_s=_seconds(said.get("EXTEND_TIMEOUT_USEC", "")),
        status=_printable(said["STATUS"]) if "STATUS" in said else None,
    )
    return None if notified == Notified(worker, run) else notified


def _assignments(message: bytes) -> list[tuple[str, str]]:
    lines = message.decode(errors="replace").split("\n")
    pairs = (line.partition("=") for line in lines)
    return [(name, value) for name, equals, value in pairs if equals]


def _seconds(microseconds: str) -> float | None:
    if not microseconds.isascii() or not microseconds.isdecimal() or len(microseconds) > LONGEST_NUMBER:
        return None
    return min(int(microseconds) / 1e6, LONGEST_EXTENSION_S)


def _printable(text: str) -> str:
    return "".join(character for character in text[:STATUS_CHARACTERS] if character.isprintable())


def merge(earlier: Notified, later: Notified) -> Notified:
    """Return two messages of one run as one; of two values the later one counts."""
    return Notified(
        worker=later.worker,
        run=later.run,
        ready=earlier.ready or later.ready,
        stopping=earlier.stopping or later.stopping,
        watchdog=earlier.watchdog or later.watchdog,
        trigger=earlier.trigger or later.trigger,
        extend_s=earlier.extend_s if later.extend_s is None else later.extend_s,
        status=earlier.status if later.status is None else later.status,
    )
