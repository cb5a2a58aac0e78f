"""The entry point: finds the command, runs it, and turns every failure into one line and an exit code."""

import importlib
import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NoReturn, cast

from supervisor import __version__
from supervisor.cli.command import Command, CommandError, Exit, socket_argument

PROGRAM: Final = "gpu-supervisor"

# Which module holds which command: only that one is imported, so that `status` starts fast.
MODULES: Final[Mapping[str, str]] = {
    "run": "run",
    "status": "status",
    "start": "wishes",
    "stop": "wishes",
    "restart": "wishes",
    "reset": "wishes",
    "reload": "reload",
    "top": "top",
    "logs": "logs",
    "history": "history",
    "alerts": "alerts",
    "check-config": "config",
    "schema": "config",
    "units": "units",
    "recommend": "recommend",
    "diagnose": "diagnose.command",
    "replay": "replay",
    "simulate": "simulate",
    "web": "web",
    "completion": "completion",
    "version": "version",
}
HIDDEN: Final[Mapping[str, str]] = {"complete": "completion"}  # what the shells call


class Parser(ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise a usage error that names the help."""
        raise CommandError(
            f"cannot understand the command line: {message} (see `{self.prog} --help`)", Exit.USAGE
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["run"]:  # before argparse loads for a moment what a daemon then has for months
        from supervisor.daemon.lean import import_lean  # noqa: PLC0415

        import_lean()
    try:
        code = _run(words)
        sys.stdout.flush()
    except CommandError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return int(error.code)
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:
        # The reader has gone; what is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.PIPE)
    return code


def _run(words: Sequence[str]) -> int:
    try:
        arguments = build_parser(words).parse_args(words)
    except SystemExit as done:  # --help, --version
        return int(done.code or 0)
    command = cast("Command", arguments.command)
    return command.run(arguments)


def build_parser(words: Sequence[str]) -> ArgumentParser:
    """Return a parser of the command that `words` begins with, of all where it begins otherwise."""
    first = words[0] if words else ""
    named = {**MODULES, **HIDDEN}.get(first)
    parser = Parser(
        prog=PROGRAM,
        description="Keeps inference workers inside their memory, their GPU and their age.",
        epilog=f"`{PROGRAM} COMMAND --help` tells more of a command, with an example.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    socket_argument(parser)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for command in all_commands() if named is None else commands_of(named):
        one = commands.add_parser(
            command.name,
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            epilog=f"example:\n  {command.example}",
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.arguments(one)
        one.set_defaults(command=command)
    return parser


def all_commands() -> Iterable[Command]:
    """Yield every command, in the order of the help."""
    for module in dict.fromkeys(MODULES.values()):
        yield from (command for command in commands_of(module) if command.name not in HIDDEN)


def commands_of(module: str) -> Sequence[Command]:
    """Return the commands of one module."""
    return cast("Sequence[Command]", importlib.import_module(f"supervisor.cli.{module}").COMMANDS)


if __name__ == "__main__":
    raise SystemExit(main())
