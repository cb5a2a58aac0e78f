"""What a terminal can do, and text that is safe to show on one."""

import os
import shutil
import sys
import unicodedata
from typing import Final, Literal

Colour = Literal["red", "yellow", "green", "dim", "bold"]
CODES: Final = {"red": "31", "yellow": "33", "green": "32", "dim": "2", "bold": "1"}


def is_live() -> bool:
    """Whether standard output is a terminal that can be redrawn."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def is_coloured() -> bool:
    """Whether colour is wanted: on a terminal, unless NO_COLOR says otherwise (no-color.org)."""
    return is_live() and not os.environ.get("NO_COLOR")


def coloured(text: str, colour: Colour | None, *, on: bool) -> str:
    """Return `text` in a colour."""
    return f"\x1b[{CODES[colour]}m{text}\x1b[0m" if on and colour is not None else text


def plain(text: str) -> str:
    """Return `text` as one line without control characters: much of it was written by workers."""
    return "".join(" " if unicodedata.category(each)[0] == "C" else each for each in text)


def size() -> tuple[int, int]:
    """Return columns and lines of the terminal, 80 by 24 where there is none."""
    found = shutil.get_terminal_size((80, 24))
    return found.columns, found.lines
