"""`replay`: recorded turns through the same decisions, as a debugger and as a test."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from supervisor.cli.command import Command, CommandError, Exit
from supervisor.cli.document import json_argument, show
from supervisor.cli.terminal import coloured, is_coloured, plain
from supervisor.daemon.recording import Difference, RecordingError, Turn, read_turns, replay
from supervisor.decide.turn import decide
from supervisor.model.action import Action, Notice
from supervisor.model.news import News

SHOWN: Final = 400  # characters of each side of a difference


class Document(Struct):
    """What `replay --json` prints."""

    turns: int
    differences: tuple[Difference, ...]


def run(arguments: Namespace) -> int:
    """Decide every turn again; print what happened in it, and where the decision differs."""
    path: Path = arguments.file
    try:
        return _replay_as_json(path) if arguments.json else _replay(path)
    except RecordingError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"cannot replay {path}: {error.strerror}") from error


def _replay_as_json(path: Path) -> int:
    with path.open("rb") as lines:
        differences = tuple(replay(lines, decide))
    with path.open("rb") as lines:
        turns = sum(1 for _ in read_turns(lines))
    show(Document(turns, differences))
    return Exit.FAILED if differences else Exit.DONE


def _replay(path: Path) -> int:
    with path.open("rb") as lines:
        differing: dict[int, list[Difference]] = {}
        for difference in replay(lines, decide):
            differing.setdefault(difference.turn, []).append(difference)
    turns = 0
    with path.open("rb") as lines:
        for number, _plan, _memory, turn in read_turns(lines):
            turns += 1
            shown = render(turn, differing.get(number, ()), colour=is_coloured())
            if len(shown) > 1:
                print("\n".join([f"line {number}, {shown[0]}", *shown[1:]]))
    print(f"{turns} turns decided again, {len(differing)} otherwise than recorded")
    return Exit.FAILED if differing else Exit.DONE


def render(turn: Turn, differences: Sequence[Difference], *, colour: bool) -> list[str]:
    """Return a turn in lines: its time, its news, its actions, and what comes out otherwise now."""
    lines = [f"at {turn.snapshot.taken_s:.3f}"]
    lines += [f"    heard  {_news(news)}" for news in turn.news]
    lines += [f"    did    {_action(action)}" for action in turn.decision.actions]
    for difference in differences:
        lines.append("    " + coloured(f"{difference.field} differs", "red", on=colour))
        lines.append(f"        then {plain(difference.recorded)[:SHOWN]}")
        lines.append(f"        now  {plain(difference.replayed)[:SHOWN]}")
    return lines


def _action(action: Action) -> str:
    kind = f"notice: {action.event}" if isinstance(action, Notice) else type(action).__name__.lower()
    whom = f" {action.worker}" if action.worker else ""
    return plain(f"{kind}{whom}: {action.reason}")


def _news(news: News) -> str:
    told = " ".join(f"{name}={getattr(news, name)}" for name in news.__struct_fields__)
    return plain(f"{type(news).__name__.lower()} {told}")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="what `run --record FILE` wrote")
    json_argument(parser)


COMMANDS: Final = (
    Command(
        "replay",
        "run recorded turns through the same decisions; fails where one comes out otherwise",
        "gpu-supervisor replay turns.jsonl",
        _arguments,
        run,
    ),
)
