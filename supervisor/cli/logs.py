"""`logs`: what a worker printed, its own lines and no others.

They come from the file that holds them, or from the journal of the worker's unit, and look the same:
without times, which `journalctl --unit=gpu-worker-NAME` adds.
"""

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
from supervisor.cli.journal import WorkerJournal
from supervisor.cli.log_file import LogFile
from supervisor.daemon.places import find_places

LINES: Final = 50
POLL_S: Final = 0.2
NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]*")


def run(arguments: Namespace) -> int:
    """Print the last lines, and with -f what follows until Ctrl-C."""
    name: str = arguments.name
    found = _find(getattr(arguments, "socket", None), name)
    if isinstance(found, WorkerJournal):
        if not found.has_lines():
            _say_nothing_yet(name)
        found.show(arguments.lines, follow=arguments.follow)
        return Exit.DONE
    try:
        with LogFile(found) as log:
            if log.is_empty():
                _say_nothing_yet(name)
            _write(log.last(arguments.lines))
            while arguments.follow:
                _write(log.more())
                time.sleep(POLL_S)
    except FileNotFoundError as error:
        raise CommandError(f"cannot show logs of {name}: it has printed nothing yet ({found})") from error
    except PermissionError as error:
        raise CommandError(f"cannot show logs of {name}: no permission to read {found}; use sudo") from error
    return Exit.DONE


def _find(chosen: str | None, name: str) -> Path | WorkerJournal:
    """Ask the daemon where it is; find it without, for logs are wanted most when the daemon is down."""
    doing = f"show logs of {name}"
    try:
        daemon = connect(chosen, doing)
        return daemon.log_file(name) if daemon.unit(name) is None else WorkerJournal(name, doing)
    except CommandError as error:
        if error.code is not Exit.NOT_RUNNING or chosen or not NAME.fullmatch(name):
            raise
        found = _left_behind(name, doing)
        if found is None:
            raise
        _say("the daemon is not running; this is from its last run")
        return found


def _left_behind(name: str, doing: str) -> Path | WorkerJournal | None:
    for directory in _directories():
        if os.access(directory / f"{name}.log", os.R_OK):
            return directory / f"{name}.log"
    journal = WorkerJournal(name, doing)
    try:
        return journal if journal.has_lines() else None
    except CommandError:  # it is the daemon that was asked for, and it is not running
        return None


def _directories() -> Iterator[Path]:
    yield find_places(os.environ, os.getuid()).log_dir
    yield find_places({}, 0).log_dir


def _say(text: str) -> None:
    print(f"gpu-supervisor: {text}", file=sys.stderr)


def _say_nothing_yet(name: str) -> None:
    _say(f"{name} has printed nothing yet")


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
