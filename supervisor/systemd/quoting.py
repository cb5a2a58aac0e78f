r"""Writes words, variables, paths and names so that systemd 252 reads them back exactly as they were.

systemd.syntax(7) and systemd.service(5) ("Command lines"), each rule seen to hold on a real systemd by
tests/system/test_units_quoting.py:

* the file is read line by line (at \n, \r and NUL), in UTF-8, at most 1 MiB a line;
* `%` begins a specifier everywhere: it is doubled;
* words are unquoted and C-unescaped, so that a word in double quotes with \xHH for every control
  character comes out as it went in; paths and names are not: there a quote is a character;
* `$` is left alone, since each command begins with `:`, which turns variables off.

What systemd cannot be told raises ValueError, in words for the operator.
"""

import re
from collections.abc import Sequence
from posixpath import join, normpath
from typing import Final

LONGEST_WORD_BYTES: Final = (128 << 10) - 1  # MAX_ARG_STRLEN of execve(2), of which one is the NUL
LONGEST_LINE_BYTES: Final = (1 << 20) - 1  # LONG_LINE_MAX of systemd's conf-parser.c
LONGEST_PATH_BYTES: Final = 4095  # PATH_MAX, of which one is the NUL

# A word of these alone needs no quotes. Without `;`, which alone ends a command, and without `%`.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:=@,+-]+", re.ASCII)
# Before a program's name: systemd.service(5), "Special executable prefixes". We write `:` and `@` ourselves:
# a second one is part of the name.
_ORDERS: Final = "-+!|"
_BLANK: Final = " \t\n\r"
_GLOB: Final = re.compile(r"([*?\[\\])")
# What systemd (utf8.c, unichar_is_valid) and D-Bus do not take for characters.
_PLANE_ENDS: Final = "".join(
    f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000)
)
_NO_CHARACTER: Final = re.compile(f"[\ud800-\udfff\ufdd0-\ufdef{_PLANE_ENDS}]")
_UNWRITABLE: Final = re.compile(r"[\n\r\0]")
_QUOTES: Final = frozenset("\"'\\")


def command_line(words: Sequence[str], directory: str | None = None) -> str:
    """Return the value of ExecStart= that starts `words` as they are.

    A program with a slash is looked for below `directory` (None: below /), as execve(2) would; one
    without is looked for by systemd, in ExecSearchPath= where that is set.
    """
    program, *arguments = words
    # `:` keeps $ as it is, `@` says argv[0] apart: programs such as busybox read what they were called by.
    written = [f":@{quoted(program_path(program, directory))}", quoted(program)]
    for number, word in enumerate(arguments, 1):
        try:
            written.append(quoted(word))
        except ValueError as error:
            raise ValueError(f"word {number} of its command {error}") from None
    line = " ".join(written)
    if len(line.encode()) > LONGEST_LINE_BYTES - len("ExecStart="):
        raise ValueError("its command is longer than the 1 MiB that systemd reads in one line")
    return line


def program_path(program: str, directory: str | None = None) -> str:
    """Return the path by which systemd finds a program, as it is; see `command_line`."""
    _check_program(program)
    return join(directory or "/", program) if "/" in program else program


def assignment(name: str, value: str) -> str:
    """Return the value of Environment= that sets one variable."""
    try:
        return quoted(f"{name}={value}")
    except ValueError as error:
        raise ValueError(f"environment.{name} {error}") from None


def quoted(text: str) -> str:
    """Return one word, in quotes where it needs them."""
    _check_text(text)
    if len(text.encode()) > LONGEST_WORD_BYTES:
        raise ValueError(f"has {len(text.encode())} bytes, and execve takes {LONGEST_WORD_BYTES}")
    if _PLAIN.fullmatch(text):
        return text
    return f'"{"".join(_escaped(character) for character in text)}"'


def directory_path(path: str) -> str:
    """Return the value of WorkingDirectory=."""
    _check_path("directory", path)
    # Blanks at the end would be cut off and a backslash would join the next line: `/.` is no change.
    return _literal(path if path[-1] not in f"{_BLANK}\\" else f"{path}/.")


def environment_file_path(path: str) -> str:
    """Return the value of EnvironmentFile=."""
    return _literal(environment_file_pattern(path))


def environment_file_pattern(path: str) -> str:
    """Return the pattern of glob(7) that is one file of variables, as it is."""
    _check_path("environment_file", path)
    found = _GLOB.sub(r"\\\1", path)
    # Blanks at the end would be cut off.
    return found if path[-1] not in _BLANK else f"{found[:-1]}[{path[-1]}]"


def account(key: str, name: str) -> str:
    """Return the value of User= or Group=."""
    return _literal(account_name(key, name))


def account_name(key: str, name: str) -> str:
    """Return a user or a group as it is: a name, or a number without zeros before it."""
    if name.isdecimal() and name.isascii():
        return str(int(name))
    if name != name.strip(_BLANK) or not name or not name.isprintable() or set(name) & set("/:\\"):
        raise ValueError(f"{key} {name!r} is no name that systemd takes")
    _checked(key, name)
    return name


def search_path(path: str) -> str | None:
    """Return the value of ExecSearchPath= for a PATH, None where no directory of it can be told."""
    return ":".join(_literal(each) for each in search_directories(path)) or None


def search_directories(path: str) -> list[str]:
    """Return the directories of a PATH that systemd takes, as they are."""
    return [
        each
        for each in path.split(":")
        if each.startswith("/") and normpath(each) == each and _is_tellable(each) and not set(each) & _QUOTES
    ]


def _is_tellable(path: str) -> bool:
    try:
        _check_text(path)
    except ValueError:
        return False
    return path.isprintable() and len(path.encode()) <= LONGEST_PATH_BYTES and " " not in path


def _check_program(program: str) -> None:
    _checked("its program", program)
    if not program.isprintable() or set(program) & _QUOTES:
        raise ValueError(f"its program {program!r} has a quote, a backslash or a control character")
    if "/" not in program and program[0] in _ORDERS:
        raise ValueError(f"its program {program!r} begins with {program[0]}: write its whole path")
    if program.endswith("/"):
        raise ValueError(f"its program {program!r} is a directory")
    if len(program.encode()) > LONGEST_PATH_BYTES:
        raise ValueError(f"its program has a path of more than {LONGEST_PATH_BYTES} bytes")


def _check_path(key: str, path: str) -> None:
    _checked(key, path)
    if not path.startswith("/"):
        raise ValueError(f"{key} {path!r} is no absolute path")
    if _UNWRITABLE.search(path):
        raise ValueError(f"{key} {path!r} has a line break, which a unit cannot hold in a path")
    if len(path.encode()) > LONGEST_PATH_BYTES:
        raise ValueError(f"{key} is a path of more than {LONGEST_PATH_BYTES} bytes")


def _checked(key: str, text: str) -> None:
    try:
        _check_text(text)
    except ValueError as error:
        raise ValueError(f"{key} {error}") from None
    if not text:
        raise ValueError(f"{key} is empty")


def _check_text(text: str) -> None:
    if "\0" in text:
        raise ValueError("holds a NUL character, which no program can be given")
    found = _NO_CHARACTER.search(text)
    if found is not None:
        raise ValueError(f"holds {found[0]!a}, which systemd does not take for a character")


def _literal(text: str) -> str:
    return text.replace("%", "%%")


def _escaped(character: str) -> str:
    if character in {'"', "\\"}:
        return f"\\{character}"
    if character == "%":
        return "%%"
    if character.isprintable():
        return character
    return {"\n": r"\n", "\t": r"\t"}.get(character) or "".join(
        f"\\x{byte:02x}" for byte in character.encode()
    )
