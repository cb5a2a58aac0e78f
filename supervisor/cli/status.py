"""`status`: how everything is, once or again every second."""

import sys
import time
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from typing import Final

import msgspec

from supervisor.cli import terminal
from supervisor.cli.client import Client, connect
from supervisor.cli.command import Command, CommandError, Exit, socket_argument
from supervisor.cli.document import json_argument, show
from supervisor.cli.status_table import render
from supervisor.cli.wishes import resolve, unknown_worker
from supervisor.model.status import Status

WATCH_S: Final = 1.0


def run(arguments: Namespace) -> int:
    """Show the state of everything, or of one worker."""
    if arguments.json and arguments.watch:
        raise CommandError("cannot show status: --json is one document, --watch is many", Exit.USAGE)
    name: str | None = arguments.name
    client = connect(getattr(arguments, "socket", None), f"show status of {name}" if name else "show status")
    if arguments.json:
        names = () if name is None else _meant(client, client.status(), name)
        show(msgspec.Raw(client.status_document(names)))
        return Exit.DONE
    if not arguments.watch:
        print("\n".join(_lines(client, name)))
        return Exit.DONE
    while True:
        _redraw(_lines(client, name))
        time.sleep(WATCH_S)


def _lines(client: Client, name: str | None) -> list[str]:
    status = client.status()
    if name is not None:
        meant = _meant(client, status, name)
        workers = tuple(worker for worker in status.workers if worker.name in meant)
        status = msgspec.structs.replace(status, workers=workers)
    return render(
        status,
        now_wall_s=time.time(),
        taken_wall_s=_unix(status.taken_at),
        columns=terminal.size()[0],
        colour=terminal.is_coloured(),
    )


def _meant(client: Client, status: Status, name: str) -> tuple[str, ...]:
    known = [worker.name for worker in status.workers]
    try:
        return resolve([name], known)
    except KeyError as nobody:
        raise client.error(unknown_worker(name, known), Exit.NO_SUCH_WORKER) from nobody


def _unix(taken_at: str) -> float:
    """Return an ISO 8601 time as Unix time; where it cannot be read, now: nothing is known of its age."""
    try:
        taken = datetime.fromisoformat(taken_at)
    except ValueError:
        return time.time()
    return (taken if taken.tzinfo else taken.replace(tzinfo=UTC)).timestamp()


def _redraw(lines: list[str]) -> None:
    """Draw over what was drawn before; one after the other where that is impossible."""
    if not terminal.is_live():
        print("\n".join([*lines, ""]), flush=True)
        return
    _, height = terminal.size()
    if len(lines) > height - 1:
        hidden = len(lines) - height + 2
        lines = [*lines[: height - 2], f"... {hidden} more lines: make the window higher"]
    sys.stdout.write("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
    sys.stdout.flush()


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="one worker; a base name means all its replicas"
    )
    json_argument(parser)
    parser.add_argument("--watch", action="store_true", help="again every second, until Ctrl-C")
    socket_argument(parser)


COMMANDS: Final = (
    Command(
        "status",
        "show the host, the GPUs and the workers",
        "gpu-supervisor status --watch",
        _arguments,
        run,
    ),
)
