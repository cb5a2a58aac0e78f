"""`diagnose`: the runbook as a command. Works without the daemon, without root and without a GPU."""

import time
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from supervisor.cli import terminal
from supervisor.cli.command import Command, CommandError, Exit, socket_argument
from supervisor.cli.diagnose.bundle import BundleError, Member, check_free, members_of, write_bundle
from supervisor.cli.diagnose.checks.everything import judge
from supervisor.cli.diagnose.gather.everything import Asked, gather, secrets_of
from supervisor.cli.diagnose.scrub import Scrubber
from supervisor.cli.diagnose.text import document, is_critical, render
from supervisor.cli.figures import size


def run(arguments: Namespace) -> int:
    """Look at everything, tell what was found, and pack it where that is wanted; 1 where any is critical."""
    bundle: Path | None = arguments.bundle
    socket: str | None = getattr(arguments, "socket", None)
    try:
        if bundle is not None:
            check_free(bundle)
        facts = gather(Asked(socket, arguments.config, bundle is not None))
        scrubber = Scrubber(secrets_of(facts))
        findings = judge(facts, scrubber)
        report = document(findings, version=facts.version, taken_at=_utc(facts.taken_wall_s))
        if arguments.json:
            print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
        else:
            shown = render(
                findings,
                verbose=arguments.verbose,
                columns=terminal.size()[0],
                colour=terminal.is_coloured(),
            )
            print("\n".join(shown))
        if bundle is not None:
            members = members_of(facts, report, scrubber)
            folder = time.strftime("gpu-supervisor-%Y%m%dT%H%M%SZ", time.gmtime(facts.taken_wall_s))
            write_bundle(bundle, members, folder, facts.taken_wall_s)
            if not arguments.json:
                print("\n".join(_contents(bundle, members)))
    except BundleError as error:
        raise CommandError(str(error)) from None
    return Exit.FAILED if is_critical(findings) else Exit.DONE


def _contents(bundle: Path, members: tuple[Member, ...]) -> list[str]:
    total = len(members)
    return [
        f"{bundle}: {total} files, secrets taken out; look through them before you hand it on",
        *(f"    {member.name} {size(len(member.data))}" for member in members),
    ]


def _utc(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document, with what is good too")
    parser.add_argument("--verbose", action="store_true", help="list what is good as well, not only count it")
    parser.add_argument(
        "--bundle",
        metavar="FILE",
        type=Path,
        help="pack the findings, the state, incidents, configuration and last lines into FILE (.tar.gz), "
        "without secrets",
    )
    parser.add_argument(
        "--config", metavar="F", type=Path, help="the configuration (default: the one in force, else found)"
    )
    socket_argument(parser)


COMMANDS: Final = (
    Command(
        "diagnose",
        "look for what is wrong, and say what to do: exit code 0 if nothing is critical, 1 otherwise",
        "sudo gpu-supervisor diagnose --bundle report.tar.gz",
        _arguments,
        run,
    ),
)
