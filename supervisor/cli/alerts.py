"""`alerts`: what fires, what is pending, and what was resolved lately."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Final

import msgspec

from supervisor.cli.client import connect
from supervisor.cli.command import Command, Exit, socket_argument
from supervisor.cli.history_text import clock
from supervisor.cli.terminal import Colour, coloured, is_coloured, plain
from supervisor.model.alert import AlertStatus

_COLOURS: Final[dict[str, Colour]] = {"firing": "red", "pending": "yellow", "resolved": "dim"}


class Document(msgspec.Struct):
    """What `alerts --json` prints."""

    alerts: Sequence[AlertStatus]


def run(arguments: Namespace) -> int:
    """List the alerts: those that fire or are pending, oldest first, then the last resolved ones."""
    alerts = connect(getattr(arguments, "socket", None), "show alerts").alerts()
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(Document(alerts)), indent=2).decode())
        return Exit.DONE
    for alert in alerts:
        print("\n".join(render(alert, colour=is_coloured())))
    if not alerts:
        print("no alerts")
    return Exit.DONE


def render(alert: AlertStatus, *, colour: bool) -> list[str]:
    """Return an alert in two or three lines: its state and since when; what was read; where to read on."""
    state = coloured(alert.state, _COLOURS[alert.state], on=colour)
    until = "" if alert.resolved_wall_s is None else f" to {clock(alert.resolved_wall_s)}"
    lines = [f"{state}  {plain(alert.name)}  {alert.severity}  since {clock(alert.since_wall_s)}{until}"]
    lines.append(f"    {plain(alert.summary)}")
    if alert.runbook and alert.state != "resolved":
        lines.append(f"    runbook: {plain(alert.runbook)}")
    return lines


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document")
    socket_argument(parser)


COMMANDS: Final = (
    Command(
        "alerts",
        "show which alerts fire, are pending, or were resolved lately",
        "gpu-supervisor alerts",
        _arguments,
        run,
    ),
)
