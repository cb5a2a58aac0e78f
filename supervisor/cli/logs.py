"""`logs`: what a worker printed."""

import os
import re
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from supervisor.cli.client import connect
from supervisor.cli.command import Command, CommandError, Exit, socket_argument
from supervisor.cli.log_file import LogFile
from supervisor.daemon.places import find_places

LINES: Final = 50
POLL_S: Final = 0.2
NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]*")


def run(arguments: Namespace) -> int:
    """Print the last lines, and with -f what follows until Ctrl-C."""
    name: str = arguments.name
    path = _path(getattr(arguments, "socket", None), name)
    try:
        with LogFile(path) as log:
            _write(log.last(arguments.lines))
            while arguments.follow:
                _write(log.more())
                time.sleep(POLL_S)
    except FileNotFoundError as error:
        raise CommandError(f"cannot show logs of {name}: it has printed nothing yet ({path})") from error
    except PermissionError as error:
        raise CommandError(f"cannot show logs of {name}: no permission to read {path}; use sudo") from error
    return Exit.DONE


def _path(chosen: str | None, name: str) -> Path:
    """Ask the daemon for the file; find it without, for logs are wanted most when the daemon is down."""
    try:
        return connect(chosen, f"show logs of {name}").log_file(name)
    except CommandError as error:
        if error.code is not Exit.NOT_RUNNING or chosen or not NAME.fullmatch(name):
            raise
        for directory in _directories():
            if os.access(directory / f"{name}.log", os.R_OK):
                print("gpu-supervisor: the daemon is not running; this is from its last run", file=sys.stderr)
                return directory / f"{name}.log"
        raise


def _directories() -> Iterator[Path]:
    yield find_places(os.environ, os.getuid()).log_dir
    yield find_places({}, 0).log_dir


def _write(content: bytes) -> None:
    if content:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ArgumentTypeError(f"{text!r} is not a number of lines")
    return min(int(text), sys.maxsize)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a worker")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what it prints, until Ctrl-C")
    parser.add_argument(
        "-n", "--lines", metavar="N", type=_count, default=LINES, help=f"the last N lines (default: {LINES})"
    )
    socket_argument(parser)


COMMANDS: Final = (
    Command("logs", "show what a worker printed", "gpu-supervisor logs chat -f", _arguments, run),
)
