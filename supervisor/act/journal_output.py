"""The output of workers that are services of systemd: the journal of their units."""

import contextlib
import time
from typing import Final

from supervisor.act.journalctl import SEARCH, printed_by, run_journalctl
from supervisor.act.last_words import LATEST_S, LINES, WORDS_BYTES
from supervisor.act.output import TAIL_BYTES, last_lines, raw_lines

TAIL_S: Final = 5.0
SYNC_S: Final = 2.0
WORDS_SYNC_S: Final = LATEST_S / 2


class JournalOutput:
    """Reads what the units of workers and of their commands print; see `Output`."""

    def __init__(self, search: str = SEARCH) -> None:
        """Find journalctl in the directories of `search`."""
        self._search = search

    def path(self, worker: str) -> None:
        """Return None: no file holds the output."""
        del worker

    def tail(self, worker: str, lines: int, invocation: str | None = None) -> tuple[str, ...]:
        """Return the last lines, of one life where `invocation` is given; see `Output`. 5 s at most."""
        if lines <= 0:
            return ()
        begun_s = time.monotonic()
        self._sync(begun_s + SYNC_S)
        words = (f"--lines={lines}", *printed_by(worker, invocation))
        return last_lines(run_journalctl(words, TAIL_BYTES, begun_s + TAIL_S, self._search), lines)

    def last_words(self, worker: str, invocation: str) -> tuple[str, ...]:
        """Return the last 200 lines of one life as they are. Blocks for half a second. Raises OSError."""
        begun_s = time.monotonic()
        self._sync(begun_s + WORDS_SYNC_S)
        words = (f"--lines={LINES}", *printed_by(worker, invocation))
        return raw_lines(run_journalctl(words, WORDS_BYTES, begun_s + LATEST_S, self._search), LINES)

    def _sync(self, until_s: float) -> None:
        """Have what was printed last, and may still be on its way, in the journal."""
        with contextlib.suppress(OSError):
            run_journalctl(("--sync",), TAIL_BYTES, until_s, self._search)
