"""What a command is, how it fails, and the exit codes."""

from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple


class Exit(IntEnum):
    """The exit codes of `gpu-supervisor`."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    NO_SUCH_WORKER = 4
    CONFIG = 78  # EX_CONFIG; RestartPreventExitStatus= of the unit
    INTERRUPTED = 130  # 128 + SIGINT
    PIPE = 141  # 128 + SIGPIPE


class CommandError(Exception):
    """A command failed; the text is `cannot X: why`."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        """Fail with one line for people and a code for programs."""
        super().__init__(message)
        self.code = code


class Command(NamedTuple):
    """One word of `gpu-supervisor`, with its help and an example that works."""

    name: str
    help: str
    example: str
    arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int]


def socket_argument(parser: ArgumentParser) -> None:
    """Let the operator name the daemon's socket."""
    parser.add_argument(
        "--socket", metavar="PATH", default=SUPPRESS, help="the control socket of the daemon (default: found)"
    )


def no_arguments(parser: ArgumentParser) -> None:
    """Take none."""
    del parser
