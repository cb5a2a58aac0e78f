"""`version`."""

import platform
from argparse import Namespace
from typing import Final

from supervisor import __version__
from supervisor.cli.command import Command, Exit, no_arguments


def run(arguments: Namespace) -> int:
    """Print the version, and the Python that it runs on: the first two questions of every report."""
    del arguments
    print(f"gpu-supervisor {__version__} (Python {platform.python_version()})")
    return Exit.DONE


COMMANDS: Final = (Command("version", "print the version", "gpu-supervisor version", no_arguments, run),)
