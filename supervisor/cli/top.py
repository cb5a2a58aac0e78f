"""`top`: a live view of everything, for those without a browser."""

import sys
from argparse import Namespace
from typing import Final

from supervisor.cli import terminal
from supervisor.cli.command import Command, CommandError, Exit, socket_argument


def run(arguments: Namespace) -> int:
    """Show everything until `q`."""
    if not (terminal.is_live() and sys.stdin.isatty()):
        raise CommandError("cannot show the workers: top needs a terminal; see `status --watch`", Exit.USAGE)
    # 0.13 s and 24 MiB: no other command pays for them.
    from supervisor.cli.top_screen import Top  # noqa: PLC0415
    from supervisor.cli.top_source import Source  # noqa: PLC0415

    source = Source(getattr(arguments, "socket", None))
    first = source.look()  # before the screen is taken: what is wrong is said in one line
    Top(source, first).run()
    source.close()
    return Exit.DONE


COMMANDS: Final = (
    Command(
        "top",
        "show everything live, and steer workers by keys",
        "gpu-supervisor top",
        socket_argument,
        run,
    ),
)
