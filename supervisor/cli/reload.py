"""`reload`: have the daemon read its configuration again."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Final

from supervisor.cli.client import connect
from supervisor.cli.command import Command, CommandError, Exit, socket_argument
from supervisor.cli.document import json_argument, show
from supervisor.daemon.options import ReloadResult


def run(arguments: Namespace) -> int:
    """Reload; print what changed, or every fault of a file that was refused."""
    client = connect(getattr(arguments, "socket", None), "reload")
    result = client.reload()
    if arguments.json:
        show(result)
    else:
        print("\n".join(_lines(result)))
    if result.refused:
        count = len(result.refused)
        faults = "1 fault" if count == 1 else f"{count} faults"
        raise CommandError(f"cannot reload: {faults}; the old configuration stays in force", Exit.CONFIG)
    return Exit.DONE


def _lines(result: ReloadResult) -> Iterator[str]:
    for warning in result.warnings:
        yield f"warning: {warning}"
    yield from result.refused or result.changes or ("nothing has changed",)


def _arguments(parser: ArgumentParser) -> None:
    json_argument(parser)
    socket_argument(parser)


COMMANDS: Final = (
    Command(
        "reload",
        "read the configuration again and apply what changed; workers that did not change run on",
        "gpu-supervisor reload",
        _arguments,
        run,
    ),
)
