"""What workers print: where it goes, and its last lines."""

import unicodedata
from collections import deque
from pathlib import Path
from typing import Final, Protocol

TAIL_BYTES: Final = 256 << 10  # read at most, from the end
LINE_CHARACTERS: Final = 2000  # shown at most, of one line


class Output(Protocol):
    """Keeps what workers print."""

    def path(self, worker: str) -> Path | None:
        """Return the file that holds a worker's output; None where it is no file."""
        ...

    def tail(self, worker: str, lines: int) -> tuple[str, ...]:
        """Return the last lines, fit for a terminal; empty where there is none. Blocks: for a thread.

        Raises OSError where it cannot be read.
        """
        ...


def last_lines(content: bytes, lines: int) -> tuple[str, ...]:
    """Return the last lines of what was printed, fit for a terminal.

    Cuts lines at 2,000 characters, replaces what is not UTF-8 and removes control characters.
    """
    return tuple(shown(line) for line in raw_lines(content, lines))


def raw_lines(content: bytes, lines: int) -> tuple[str, ...]:
    """Return the last lines of what was printed, as they are; what is not UTF-8 is replaced."""
    found = content.decode(errors="replace").split("\n")
    if found[-1] == "":
        found.pop()
    return tuple(deque(found, maxlen=max(0, lines)))


def shown(line: str) -> str:
    """Return a line without escape sequences' power: only printable characters and tabs."""
    kept = line.rstrip("\r")[:LINE_CHARACTERS]
    return "".join(c for c in kept if c == "\t" or unicodedata.category(c)[0] != "C")
