"""`check-config` and `schema`: the configuration without the daemon."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

import msgspec

from supervisor import config
from supervisor.cli.command import Command, CommandError, Exit, no_arguments
from supervisor.daemon.places import find_places


def check(arguments: Namespace) -> int:
    """Print every fault and every warning of a configuration; fail on faults only."""
    chosen: Path | None = arguments.file
    path = find_places(os.environ, os.getuid()).config if chosen is None else chosen
    loaded = config.load(path, machine=config.this_machine())
    for fault in loaded.faults:
        print(fault)
    for warning in loaded.warnings:
        print(f"warning: {warning}")
    for line in loaded.filled:
        print(f"filled in by its preset: {line}")
    for line in loaded.later:
        print(f"not acted on yet: {line}")
    if loaded.plan is None or loaded.faults:
        count = len(loaded.faults)
        raise CommandError(
            f"cannot accept {path}: {'1 fault' if count == 1 else f'{count} faults'}", Exit.CONFIG
        )
    workers = len(loaded.plan.workers)
    print(f"{path}: good, {'1 worker' if workers == 1 else f'{workers} workers'}")
    return Exit.DONE


def schema(arguments: Namespace) -> int:
    """Print the JSON schema that editors complete from."""
    del arguments
    print(msgspec.json.format(msgspec.json.encode(config.schema()), indent=2).decode())
    return Exit.DONE


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="F", nargs="?", type=Path, help="the configuration (default: found)")


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
