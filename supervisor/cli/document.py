"""`--json`: one document instead of text; its keys are stable."""

from argparse import ArgumentParser

import msgspec


def json_argument(parser: ArgumentParser) -> None:
    """Let a program ask for JSON."""
    parser.add_argument("--json", action="store_true", help="one JSON document")


def show(document: object) -> None:
    """Print a document."""
    print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
