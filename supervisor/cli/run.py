"""`run`: the daemon, in the foreground."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

from supervisor.cli.command import Command, CommandError, Exit


def run(arguments: Namespace) -> int:
    """Run the daemon until it is told to end."""
    if arguments.web and arguments.dry_run:
        raise CommandError("cannot run with --web: a dry run has no control socket to ask", Exit.USAGE)
    # The daemon is imported here alone: every other command does without it.
    from supervisor.daemon.options import RunOptions  # noqa: PLC0415
    from supervisor.daemon.wiring import run as run_daemon  # noqa: PLC0415

    return run_daemon(
        RunOptions(
            config=arguments.config,
            launcher=arguments.launcher,
            dry_run=arguments.dry_run,
            web=arguments.web,
            record=arguments.record,
        )
    )


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--config", metavar="F", type=Path, help="the configuration (default: found)")
    parser.add_argument(
        "--launcher",
        choices=("auto", "systemd", "direct"),
        help="who starts workers (default: as configured)",
    )
    parser.add_argument("--dry-run", action="store_true", help="decide and log, touch nothing")
    parser.add_argument("--web", action="store_true", help="with the web face beside it")
    parser.add_argument("--record", metavar="FILE", type=Path, help="write every turn to FILE, for `replay`")


COMMANDS: Final = (
    Command(
        "run",
        "run the daemon in the foreground",
        "gpu-supervisor run --config etc/config.yaml --dry-run",
        _arguments,
        run,
    ),
)
