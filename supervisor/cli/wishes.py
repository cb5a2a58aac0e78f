"""`start`, `stop`, `restart`, `reset`: ask for something, then show how it goes."""

import re
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Final, cast

from msgspec import Struct

from supervisor.cli.client import Client, connect
from supervisor.cli.command import Command, CommandError, Exit, socket_argument
from supervisor.cli.document import json_argument, show
from supervisor.cli.progress import Progress
from supervisor.cli.terminal import Colour
from supervisor.cli.verdict import Verdict, verdict
from supervisor.model.news import Wish
from supervisor.model.status import Status, WorkerStatus

POLL_S: Final = 0.2  # five looks a second: quick enough to read along
DRAINING: Final = frozenset({"stop", "restart"})  # the wishes that end a worker
NAMED_MOST: Final = 3  # in an error: more names than this are counted


class Outcome(Struct):
    """How a wish ended for one worker; `good` is null where nobody waited for it."""

    name: str
    good: bool | None
    text: str


class Document(Struct):
    """What `--json` prints."""

    wish: Wish
    workers: tuple[Outcome, ...]


def run(arguments: Namespace) -> int:
    """Ask, and wait until it has come about; Ctrl-C ends the waiting only."""
    wish = cast("Wish", arguments.wish)
    client = connect(getattr(arguments, "socket", None), f"{wish} {_named(arguments)}")
    before = client.status()
    names = _chosen(client, arguments, before)
    if names:
        client.ask(wish, names, now=getattr(arguments, "now", False), reason=arguments.reason)
    if (told := _why_not_waited(arguments, names, before)) is not None:
        if arguments.json:
            show(Document(wish, tuple(Outcome(name, None, told) for name in names)))
        else:
            print(told)
        return Exit.DONE
    try:
        verdicts = _follow(client, wish, names, before, None if arguments.json else Progress(names))
    except KeyboardInterrupt:
        print("gpu-supervisor: no longer waiting; the daemon carries on", file=sys.stderr)
        return Exit.INTERRUPTED
    if arguments.json:
        show(Document(wish, tuple(Outcome(name, *verdicts[name]) for name in names)))
    return _conclude(wish, verdicts)


def resolve(names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return the workers that are meant, each once: a base name means all its replicas.

    Raises KeyError with the first name that is nobody's.
    """
    meant: list[str] = []
    for name in names:
        replica = re.compile(rf"{re.escape(name)}-[0-9]+")
        found = [name] if name in known else [each for each in known if replica.fullmatch(each)]
        if not found:
            raise KeyError(name)
        meant += found
    return tuple(dict.fromkeys(meant))


def unknown_worker(name: str, known: Sequence[str]) -> str:
    """Say that there is no such worker, and which one may be meant."""
    near = get_close_matches(name, known, n=1)
    return f"no worker is called {name!r}" + (f"; {near[0]!r} is" if near else "")


def _why_not_waited(arguments: Namespace, names: tuple[str, ...], before: Status) -> str | None:
    """Return what is told where there is nothing to wait for."""
    if not names:
        return "no workers are configured"
    if before.dry_run:
        return "the daemon runs with --dry-run: it decides and logs, and nothing is done"
    return None if arguments.wait else f"{arguments.wish} asked for: {', '.join(names)}"


def _chosen(client: Client, arguments: Namespace, before: Status) -> tuple[str, ...]:
    known = [worker.name for worker in before.workers]
    if arguments.all:
        return tuple(known)
    try:
        return resolve(arguments.names, known)
    except KeyError as nobody:
        why = unknown_worker(str(nobody.args[0]), known)
        raise client.error(why, Exit.NO_SUCH_WORKER) from nobody


def _follow(
    client: Client, wish: Wish, names: tuple[str, ...], before: Status, progress: Progress | None
) -> dict[str, Verdict]:
    """Show each worker's way until the last has a verdict; return them, the first to have one first."""
    first = {worker.name: worker for worker in before.workers}
    verdicts: dict[str, Verdict] = {}
    taken_at = ""  # of the first state after the wish was taken
    while True:
        status = client.status()
        taken_at = taken_at or status.taken_at
        seen = {worker.name: worker for worker in status.workers}
        for name in names:
            if name not in verdicts:
                found = _judge(wish, first[name], seen.get(name), settled=status.taken_at != taken_at)
                if found is not None:
                    verdicts[name] = found
        if progress is not None:
            progress.show(_texts(names, seen, verdicts), _colours(verdicts))
        if len(verdicts) == len(names):
            return verdicts
        time.sleep(POLL_S)


def _judge(wish: Wish, before: WorkerStatus, now: WorkerStatus | None, *, settled: bool) -> Verdict | None:
    if now is None:
        return Verdict(good=wish == "stop", text="it is no longer in the configuration")
    return verdict(wish, before, now, settled=settled)


def _texts(
    names: Sequence[str], seen: Mapping[str, WorkerStatus], verdicts: Mapping[str, Verdict]
) -> dict[str, str]:
    return {name: verdicts[name].text if name in verdicts else _under_way(seen[name]) for name in names}


def _under_way(worker: WorkerStatus) -> str:
    return f"{worker.phase}: {worker.waits_for}" if worker.waits_for else worker.phase


def _colours(verdicts: Mapping[str, Verdict]) -> dict[str, Colour]:
    return {name: "green" if found.good else "red" for name, found in verdicts.items()}


def _conclude(wish: Wish, verdicts: Mapping[str, Verdict]) -> int:
    failed = {name: found for name, found in verdicts.items() if not found.good}
    if not failed:
        return Exit.DONE
    name, found = next(iter(failed.items()))
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    raise CommandError(f"cannot {wish} {name}{more}: {found.text}")


def _named(arguments: Namespace) -> str:
    if arguments.all:
        return "all workers"
    names: list[str] = arguments.names
    if len(names) <= NAMED_MOST:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED_MOST])} and {len(names) - NAMED_MOST} more"


def _arguments(wish: Wish, parser: ArgumentParser) -> None:
    whom = parser.add_mutually_exclusive_group(required=True)
    whom.add_argument(
        "names", metavar="NAME", nargs="*", default=[], help="a worker; a base name means all its replicas"
    )
    whom.add_argument("--all", action="store_true", help="every worker")
    if wish in DRAINING:
        parser.add_argument("--now", action="store_true", help="do not wait for running requests")
    parser.add_argument("--reason", metavar="TEXT", default="", help="kept in the log and the history")
    parser.add_argument("--no-wait", dest="wait", action="store_false", help="do not wait until it is done")
    json_argument(parser)
    parser.set_defaults(wish=wish)
    socket_argument(parser)


def _command(wish: Wish, text: str, example: str) -> Command:
    arguments: Callable[[ArgumentParser], None] = partial(_arguments, wish)
    return Command(wish, text, example, arguments, run)


COMMANDS: Final = (
    _command("start", "start workers and wait until they are ready", "gpu-supervisor start chat embed"),
    _command("stop", "drain and stop workers and wait until they are gone", "gpu-supervisor stop --all"),
    _command(
        "restart",
        "drain, stop and start workers and wait until they are ready again",
        'gpu-supervisor restart chat --reason "new model"',
    ),
    _command("reset", "release held workers and undo their degrading", "gpu-supervisor reset chat"),
)
