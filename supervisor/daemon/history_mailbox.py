"""What waits to be written: bounded, so that a disk that hangs costs lines and not memory."""

import threading
from collections import deque
from typing import Final

from supervisor.daemon.history_store import Attached, Batch, Sampled, Told

EVENTS_MOST: Final = 4096
SAMPLES_MOST: Final = 64  # moments: ten minutes


class Mailbox:
    """Between the loop, which never waits, and the one thread that writes."""

    def __init__(self) -> None:
        """Begin empty."""
        self.dropped = 0
        self._changed = threading.Condition()
        self._events: deque[Told | Attached] = deque()
        self._samples: deque[Sampled] = deque()
        self._kept: dict[str, bytes] = {}
        self._closed = False
        self._taken = False  # a batch is being written

    def put(self, event: Told | Attached) -> None:
        """Add an event; when there are too many, samples go first, then the oldest event."""
        with self._changed:
            if len(self._events) >= EVENTS_MOST:
                self.dropped += 1 + len(self._samples)
                self._samples.clear()
                self._events.popleft()
            self._events.append(event)
            self._changed.notify_all()

    def put_samples(self, sampled: Sampled) -> None:
        """Add the rows of one moment, in place of the oldest where there are too many."""
        with self._changed:
            if len(self._samples) >= SAMPLES_MOST:
                self.dropped += 1
                self._samples.popleft()
            self._samples.append(sampled)
            self._changed.notify_all()

    def put_kept(self, key: str, value: bytes) -> None:
        """Set a value in place of the one that waits under the same key."""
        with self._changed:
            self._kept[key] = value
            self._changed.notify_all()

    def take(self, timeout_s: float) -> Batch | None:
        """Wait for something and take it all.

        Returns an empty batch after `timeout_s`, and None once the box is closed and empty.
        """
        with self._changed:
            self._taken = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting() or self._closed, timeout_s)
            if self._closed and not self._waiting():
                return None
            batch = Batch(tuple(self._events), tuple(self._samples), self._kept)
            self._events.clear()
            self._samples.clear()
            self._kept = {}
            self._taken = True
            return batch

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait until everything that was put is written; False when that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting() and not self._taken, timeout_s)

    def close(self) -> None:
        """Let `take` end once nothing waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _waiting(self) -> bool:
        return bool(self._events or self._samples or self._kept)
