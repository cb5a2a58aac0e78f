"""`reload`: have the daemon read its configuration again."""

from argparse import Namespace
from typing import Final

from supervisor.cli.client import connect
from supervisor.cli.command import Command, CommandError, Exit, socket_argument


def run(arguments: Namespace) -> int:
    """Reload; print what changed, or every fault of a file that was refused."""
    client = connect(getattr(arguments, "socket", None), "reload")
    result = client.reload()
    for warning in result.warnings:
        print(f"warning: {warning}")
    if result.refused:
        for fault in result.refused:
            print(fault)
        count = len(result.refused)
        faults = "1 fault" if count == 1 else f"{count} faults"
        raise CommandError(f"cannot reload: {faults}; the old configuration stays in force", Exit.CONFIG)
    for change in result.changes:
        print(change)
    if not result.changes:
        print("nothing has changed")
    return Exit.DONE


COMMANDS: Final = (
    Command(
        "reload",
        "read the configuration again and apply what changed; workers that did not change run on",
        "gpu-supervisor reload",
        socket_argument,
        run,
    ),
)
