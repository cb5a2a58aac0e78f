"""`web`: the dashboard and the HTTP interface, in a process of their own."""

import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

from supervisor.cli.client import control_path
from supervisor.cli.command import Command, socket_argument
from supervisor.daemon.places import with_package


def run(arguments: Namespace) -> int:
    """Become the program of the web face, which shares nothing with the commands."""
    control = control_path(getattr(arguments, "socket", None), os.environ, os.getuid())
    words = ["--socket", str(control)]
    if arguments.config is not None:
        words += ["--config", str(arguments.config)]
    if arguments.listen is not None:
        words += ["--listen", arguments.listen]
    sys.stdout.flush()
    # `-P`: nothing is imported from the current directory.
    command = [sys.executable, "-P", "-m", "supervisor.web", *words]
    os.execve(sys.executable, command, with_package(os.environ))  # noqa: S606 - it is what the command becomes


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--config", metavar="F", type=Path, help="the configuration (default: the daemon's)")
    parser.add_argument("--listen", metavar="HOST:PORT", help="where to listen (default: as configured)")
    socket_argument(parser)


COMMANDS: Final = (
    Command(
        "web",
        "serve the dashboard, the HTTP interface and the metrics",
        "gpu-supervisor web --listen 127.0.0.1:8095",
        _arguments,
        run,
    ),
)
