"""Files of KEY=value lines, in the syntax of systemd's EnvironmentFile=.

The rules are those of systemd.exec(5): lines without `=` and lines that begin with `#` or `;` are
ignored; a value may be quoted, in whole or in parts, and continues on the next line after a
backslash. Nothing is expanded. No error ever repeats a value, because these files hold secrets.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from supervisor.act.refusal import CannotLaunchError, because

LARGEST_BYTES: Final = 1 << 20  # execve takes 128 KiB for one string; a larger file is a mistake
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
BLANK: Final = " \t"
ESCAPED_IN_DOUBLE_QUOTES: Final = '"\\`$'


def read_environment_file(path: Path) -> dict[str, str]:
    """Return the variables of a file.

    Raises CannotLaunchError, with the line but never with a value.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not block the loop
        with os.fdopen(fd, "rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        refusal = because(f"read environment_file {path}", error)
        raise refusal from None
    if len(content) > LARGEST_BYTES:
        raise _fault(path, "it is larger than 1 MiB")
    if b"\0" in content:
        raise _fault(path, "it contains a NUL byte")
    try:
        return parse_environment(os.fsdecode(content))
    except ValueError as error:
        raise _fault(path, str(error)) from None


def _fault(path: Path, why: str) -> CannotLaunchError:
    return CannotLaunchError(f"cannot read environment_file {path}: {why}", hopeless=True)


def parse_environment(text: str) -> dict[str, str]:
    """Return the variables that `text` sets, a later line winning.

    Raises ValueError that names the line for a bad name or an unclosed quote.
    """
    found: dict[str, str] = {}
    scanner = _Scanner(text.replace("\r\n", "\n"))
    for line, name, value in scanner.assignments():
        if NAME.fullmatch(name) is None:
            raise ValueError(f"line {line}: the name of a variable is letters, digits and underscores")
        found[name] = value
    return found


class _Scanner:
    """Walks over the text once; `_at` is the next character, `_line` its line."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1

    def assignments(self) -> Iterator[tuple[int, str, str]]:
        while self._at < len(self._text):
            first = self._peek()
            if first in BLANK or first == "\n":
                self._take()
            elif first in "#;":
                self._rest_of_line()
            else:
                line = self._line
                name, found, _ = self._logical_name().partition("=")
                if found:
                    yield line, name.rstrip(BLANK), self._value()

    def _peek(self) -> str:
        return self._text[self._at] if self._at < len(self._text) else ""

    def _take(self) -> str:
        taken = self._peek()
        self._at += 1
        self._line += taken == "\n"
        return taken

    def _rest_of_line(self) -> None:
        """Skip a comment, which continues after a backslash as well."""
        while (taken := self._take()) not in ("\n", ""):
            if taken == "\\":
                self._take()

    def _logical_name(self) -> str:
        """Return what stands before `=`, and the `=`; without one, the whole line."""
        taken: list[str] = []
        while self._peek() not in ("\n", ""):
            taken.append(self._take())
            if taken[-1] == "=":
                break
        return "".join(taken)

    def _value(self) -> str:
        parts: list[str] = []
        kept = 0  # trailing blanks are dropped, except what was quoted or escaped
        while self._peek() and self._peek() in BLANK:
            self._take()
        while (taken := self._take()) not in ("\n", ""):
            if taken == "\\":
                self._continue(parts)
                kept = len(parts)
            elif taken in "'\"":
                self._quoted(taken, parts)
                kept = len(parts)
            else:
                parts.append(taken)
                kept = kept if taken in BLANK else len(parts)
        return "".join(parts[:kept])

    def _continue(self, parts: list[str]) -> None:
        """Take the character after a backslash outside of quotes: a line end vanishes."""
        escaped = self._take()
        if escaped not in ("\n", ""):
            parts.append(escaped)

    def _quoted(self, quote: str, parts: list[str]) -> None:
        opened = self._line
        while (taken := self._take()) != quote:
            if taken == "":
                raise ValueError(f"line {opened}: a quote is not closed")
            if taken == "\\" and quote == '"':
                escaped = self._take()
                if escaped in ESCAPED_IN_DOUBLE_QUOTES and escaped:
                    parts.append(escaped)
                elif escaped != "\n":
                    parts.extend((taken, escaped))
            else:
                parts.append(taken)
