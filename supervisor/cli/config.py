"""`check-config` and `schema`: the configuration without the daemon."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from supervisor import config
from supervisor.cli.command import Command, CommandError, Exit, no_arguments
from supervisor.cli.document import json_argument, show
from supervisor.config.fault import Fault
from supervisor.config.load import Loaded
from supervisor.daemon.places import find_places


class Document(Struct):
    """What `check-config --json` prints."""

    file: str
    good: bool
    workers: tuple[str, ...]
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]
    filled: tuple[str, ...]
    later: tuple[str, ...]


def check(arguments: Namespace) -> int:
    """Print every fault and every warning of a configuration; fail on faults only."""
    chosen: Path | None = arguments.file
    path = find_places(os.environ, os.getuid()).config if chosen is None else chosen
    loaded = config.load(path, machine=config.this_machine())
    if arguments.json:
        show(_document(path, loaded))
    else:
        for line in _lines(path, loaded):
            print(line)
    if loaded.plan is None:
        count = len(loaded.faults)
        raise CommandError(
            f"cannot accept {path}: {'1 fault' if count == 1 else f'{count} faults'}", Exit.CONFIG
        )
    return Exit.DONE


def _document(path: Path, loaded: Loaded) -> Document:
    workers = () if loaded.plan is None else tuple(loaded.plan.workers)
    good = loaded.plan is not None
    return Document(str(path), good, workers, loaded.faults, loaded.warnings, loaded.filled, loaded.later)


def _lines(path: Path, loaded: Loaded) -> Iterator[str]:
    yield from map(str, loaded.faults)
    yield from (f"warning: {warning}" for warning in loaded.warnings)
    yield from (f"filled in by its preset: {line}" for line in loaded.filled)
    yield from (f"not acted on yet: {line}" for line in loaded.later)
    if loaded.plan is not None:
        workers = len(loaded.plan.workers)
        yield f"{path}: good, {'1 worker' if workers == 1 else f'{workers} workers'}"


def schema(arguments: Namespace) -> int:
    """Print the JSON schema that editors complete from."""
    del arguments
    show(config.schema())
    return Exit.DONE


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="F", nargs="?", type=Path, help="the configuration (default: found)")
    json_argument(parser)


COMMANDS: Final = (
    Command(
        "check-config",
        "check a configuration and show every fault and warning",
        "gpu-supervisor check-config /etc/gpu-supervisor/config.yaml",
        _arguments,
        check,
    ),
    Command(
        "schema", "print the JSON schema of the configuration", "gpu-supervisor schema", no_arguments, schema
    ),
)
