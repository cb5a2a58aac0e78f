"""`history`: what happened to the workers, and why."""

import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from supervisor.cli.client import connect
from supervisor.cli.command import Command, CommandError, Exit, socket_argument
from supervisor.cli.document import json_argument, show
from supervisor.cli.history_text import render_detail, render_incident
from supervisor.cli.terminal import is_coloured
from supervisor.model.incident import Incident
from supervisor.model.quantity import parse_span

LIMIT: Final = 100
SHOW: Final = "show"


class Document(msgspec.Struct):
    """What `history --json` prints."""

    incidents: Sequence[Incident]


def run(arguments: Namespace) -> int:
    """List incidents, the newest last as in a log, or show one."""
    words: list[str] = arguments.words
    if len(words) == 2 and words[0] == SHOW:  # noqa: PLR2004 - `show ID`
        return _show(arguments, words[1])
    if len(words) > 1:
        raise CommandError("cannot show history: one worker at a time, or `history show ID`", Exit.USAGE)
    worker = words[0] if words else None
    client = connect(getattr(arguments, "socket", None), "show history")
    incidents = client.incidents(worker, arguments.since, arguments.limit)
    if arguments.json:
        show(Document(incidents))
        return Exit.DONE
    for incident in reversed(incidents):
        print("\n".join(render_incident(incident, colour=is_coloured())))
    if not incidents:
        print("no incidents")
        if worker is not None and worker not in {each.name for each in client.status().workers}:
            raise client.error(f"no worker is called {worker!r}, now or in the history", Exit.NO_SUCH_WORKER)
    return Exit.DONE


def _show(arguments: Namespace, ident: str) -> int:
    detail = connect(getattr(arguments, "socket", None), f"show incident {ident}").incident(ident)
    if arguments.json:
        show(detail)
    else:
        print("\n".join(render_detail(detail, colour=is_coloured())))
    return Exit.DONE


def since(text: str, now_wall_s: float) -> float:
    """Read a time as Unix time: a span is that long ago, else ISO 8601, local where it names no zone.

    Raises ValueError.
    """
    try:
        return now_wall_s - parse_span(text)
    except ValueError:
        return datetime.fromisoformat(text).timestamp()


def _since(text: str) -> float:
    try:
        return since(text, time.time())
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is neither a span as 2h nor a time as 2026-01-31T08:00") from None


def _limit(text: str) -> int:
    most = 10_000
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise ArgumentTypeError(f"{text!r} is not a number from 1 to {most}")
    return int(text)


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "words", metavar="NAME | show ID", nargs="*", help="one worker, or all of one incident"
    )
    parser.add_argument("--since", metavar="T", type=_since, help="a span (2h) or a time (2026-01-31T08:00)")
    parser.add_argument(
        "--limit", metavar="N", type=_limit, default=LIMIT, help=f"the newest N (default: {LIMIT})"
    )
    json_argument(parser)
    socket_argument(parser)


COMMANDS: Final = (
    Command(
        "history",
        "show what happened to workers: when, what, why, the numbers, how it ended",
        "gpu-supervisor history chat --since 2h",
        _arguments,
        run,
    ),
)
