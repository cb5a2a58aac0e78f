"""What is wrong with a configuration, gathered until all of it is known."""

import json
import re
from typing import Final

from msgspec import Struct

Path = tuple[str | int, ...]

_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,60}", re.ASCII)
_MOST: Final = 200  # nobody reads further, and a hostile file can hold a hundred thousand


class Fault(Struct, frozen=True):
    """One thing that is wrong; `line` 0 where it is about the whole file, `path` empty likewise."""

    file: str
    line: int
    path: str
    why: str

    def __str__(self) -> str:
        """Write it as `FILE:LINE: workers.chat.memory.max: why`."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.path}: {self.why}" if self.path else f"{place}: {self.why}"


def quoted(text: str) -> str:
    """Return `text` on one line, in quotes, shortened, for showing it inside a sentence."""
    return json.dumps(text if len(text) <= 60 else f"{text[:57]}...", ensure_ascii=False)  # noqa: PLR2004


def written(path: Path) -> str:
    """Write a path as `alerts.rules[0].when`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
            continue
        name = step if _PLAIN_KEY.fullmatch(step) else quoted(step)
        text += f".{name}" if text else name
    return text


class Report:
    """Gathers faults and warnings of one file, and remembers on which line each path was written."""

    def __init__(self, file: str) -> None:
        """Name the file that the faults are of."""
        self.file = file
        self._lines: dict[Path, int] = {}
        self._faults: list[Fault] = []
        self._warnings: list[Fault] = []
        self._filled: list[str] = []
        self._bad: set[Path] = set()
        self._told: set[tuple[int, str]] = set()

    def saw(self, path: Path, line: int) -> None:
        """Remember the line of a path."""
        self._lines[path] = line

    def line_of(self, path: Path) -> int:
        """Return the line of a path, or of what it lies in; 0 where nothing of it was written."""
        for end in range(len(path), 0, -1):
            line = self._lines.get(path[:end])
            if line is not None:
                return line
        return 0

    def fault(self, path: Path, why: str, *, line: int | None = None, node: object = None) -> None:
        """Add a fault. What is wrong with one `node` is told once, however often the node is used."""
        self._bad.update(path[:end] for end in range(len(path) + 1))
        if node is not None:
            if (id(node), why) in self._told:
                return
            self._told.add((id(node), why))
        self._faults.append(self._made(path, why, line))

    def warn(self, path: Path, why: str) -> None:
        """Add a warning."""
        self._warnings.append(self._made(path, why, None))

    def fill(self, path: Path, text: str) -> None:
        """Note a key that a preset fills in."""
        self._filled.append(f"{written(path)}: {text}")

    def filled(self) -> tuple[str, ...]:
        """Return what presets fill in, as `workers.chat.stop_again: 10s`."""
        return tuple(self._filled)

    def bad(self, *path: str | int) -> bool:
        """Say whether a fault was found at `path` or in it; with no path, anywhere."""
        return path in self._bad

    def faults(self) -> tuple[Fault, ...]:
        """Return the faults by line; beyond 200 only their number."""
        return _in_order(self._faults, "faults")

    def warnings(self) -> tuple[Fault, ...]:
        """Return the warnings by line; beyond 200 only their number."""
        return _in_order(self._warnings, "warnings")

    def _made(self, path: Path, why: str, line: int | None) -> Fault:
        return Fault(self.file, self.line_of(path) if line is None else line, written(path), why)


def _in_order(found: list[Fault], noun: str) -> tuple[Fault, ...]:
    """Return them once each, by line, and the number of those left out."""
    ordered = sorted(dict.fromkeys(found), key=lambda fault: fault.line)
    if len(ordered) <= _MOST:
        return tuple(ordered)
    rest = Fault(ordered[0].file, 0, "", f"and {len(ordered) - _MOST} more {noun}")
    return (*ordered[:_MOST], rest)
