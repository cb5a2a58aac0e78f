"""Print the parts of docs/ that the code knows best, between the marks that name them."""

import re
import sys
from argparse import SUPPRESS, Action, ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec.inspect as mi
import yaml
from msgspec import NODEFAULT, Struct

from supervisor.cli.command import Exit
from supervisor.cli.main import all_commands
from supervisor.config.fault import Report
from supervisor.config.kinds import KINDS
from supervisor.config.load import load_text
from supervisor.config.machine import Machine
from supervisor.config.read import type_of
from supervisor.config.scalars import Unwrapped, unwrapped
from supervisor.config.shape import ConfigShape
from supervisor.decide.lifecycle import MOVES
from supervisor.model.condition import READINGS, Topic
from supervisor.web.metrics import CHAPTERS
from supervisor.web.routes import PAGES

DOCS: Final = Path(__file__).resolve().parents[1] / "docs"
RULES: Final = DOCS.parent / "etc/prometheus/rules.yaml"
MARKED: Final = re.compile(r"(<!-- printed: (\w+) -->\n).*?(<!-- end -->\n)", re.DOTALL)

# Every key that may not be acted on, set: what the configuration says of this file is what is not done yet.
EVERY_LATER_KEY: Final = """\
launcher: LAUNCHER
gpu: {power_near: 90%}
workers:
  NAME:
    command: sleep '{x}'
    settings: {x: 5}
    gpus: auto
    memory: {cap: 1G, high: 2G, max: 3G, swap_max: 0}
    cpu: {quota: 50%}
    health: {llama: 'http://127.0.0.1:1'}
    ladder: [{x: 4}]
"""


def main(words: Sequence[str]) -> int:
    """Rewrite the files whose printed parts are stale, or only name them."""
    stale = {path: fresh for path, fresh in printed().items() if fresh != path.read_text()}
    for path, fresh in stale.items():
        if "--check" not in words:
            path.write_text(fresh)
        print(f"docs/{path.name}")  # noqa: T201 - it is a program
    return 1 if stale and "--check" in words else 0


def printed() -> dict[Path, str]:
    """Return each file of docs/ as it is with its printed parts fresh."""
    return {path: fresh(path.read_text()) for path in sorted(DOCS.glob("*.md"))}


def fresh(text: str) -> str:
    """Return `text` with what stands between its marks printed anew; raises KeyError for an unknown mark."""
    return MARKED.sub(lambda mark: "\n".join((mark[1].rstrip(), *PARTS[mark[2]](), mark[3])), text)


def lifecycle() -> Iterator[str]:
    """Yield the table of the life of a worker as a state diagram."""
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield "    [*] --> waiting"
    for (phase, event), following in MOVES.items():
        yield f"    {phase} --> {following}: {event}"
    yield "```"


def keys() -> Iterator[str]:
    """Yield one row of a table for each key of the configuration."""
    yield "| key | value | default | meaning |"
    yield "|---|---|---|---|"
    yield from _rows(type_of(ConfigShape), "", later_keys())


def later_keys() -> Mapping[str, str]:
    """Return the keys that are not acted on in this version, each with what the configuration says of it."""
    found: dict[str, str] = {}
    for launcher in ("systemd", "auto"):
        loaded = load_text(
            EVERY_LATER_KEY.replace("LAUNCHER", launcher).replace("NAME", "name"), Report(""), Machine()
        )
        for line in loaded.later:
            key, _, why = line.partition(": ")
            found[key.replace("workers.name.", "workers.NAME.")] = why
    return found


def _rows(shape: mi.StructType, above: str, later: Mapping[str, str]) -> Iterator[str]:
    for field in shape.fields:
        path = f"{above}{field.encode_name}"
        found = unwrapped(field.type)
        below = None if path == "defaults" else _struct_in(found.type)
        value = "a mapping" if path == "defaults" else _value(found)
        cells = (f"`{path}`", value, _default(field, found, path), _meaning(found, later.get(path)))
        yield f"| {' | '.join(cells)} |"
        if below is not None:
            yield from _rows(below[0], f"{path}{below[1]}.", later)


def _struct_in(kind: mi.Type) -> tuple[mi.StructType, str] | None:
    """Return the keys that lie below a key, and how a path goes on to them."""
    match kind:
        case mi.StructType():
            return kind, ""
        case mi.UnionType():
            return next((found for each in kind.types if (found := _struct_in(unwrapped(each).type))), None)
        case mi.DictType() if isinstance(kind.value_type, mi.StructType):
            return kind.value_type, ".NAME"
        case mi.VarTupleType() if isinstance(kind.item_type, mi.StructType):
            return kind.item_type, "[]"
        case _:
            return None


def _value(found: Unwrapped) -> str:
    if found.kind is not None:
        return {"percent": "percentage", "span": "time span"}.get(found.kind, found.kind)
    match found.type:
        case mi.UnionType():
            words = [_value(unwrapped(each)) for each in found.type.types]
            return " or ".join(dict.fromkeys(word for word in words if word))
        case mi.NoneType():
            return ""
        case mi.LiteralType():
            return ", ".join(f"`{value}`" for value in found.type.values)
        case mi.StructType() | mi.DictType():
            return "a mapping"
        case mi.VarTupleType():
            return "a list"
        case mi.BoolType():
            return "true or false"
        case mi.IntType():
            return "whole number"
        case mi.FloatType():
            return "number"
        case _:
            return "text"


def _default(field: mi.Field, found: Unwrapped, path: str) -> str:
    default: object = field.default
    if path == "workers.NAME.command" or default is NODEFAULT:
        return "" if field.default_factory is not NODEFAULT else "must be written"
    if isinstance(default, Struct) or default in ((), ""):
        return ""
    if default is None:
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    kind = found.kind if found.kind is not None else _kind_in(found.type)
    if kind is not None and isinstance(default, int | float):
        return KINDS[kind].show(default)
    return f"{default:g}" if isinstance(default, float) else str(default)


def _kind_in(kind: mi.Type) -> str | None:
    if not isinstance(kind, mi.UnionType):
        return None
    return next((found for each in kind.types if (found := unwrapped(each).kind)), None)


def _meaning(found: Unwrapped, later: str | None) -> str:
    text = _cell(found.description or "")
    return text if later is None else f"{text}. **Not yet**: {_cell(later)}"


def commands() -> Iterator[str]:
    """Yield each command with what it takes."""
    for command in all_commands():
        parser = ArgumentParser(add_help=False)
        command.arguments(parser)
        yield f"### {command.name}"
        yield ""
        yield f"{command.help[0].upper()}{command.help[1:]}. For example `{command.example}`"
        yield ""
        taken = [action for action in parser._actions if action.help != SUPPRESS]  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        if taken:
            yield "| takes | |"
            yield "|---|---|"
            yield from (f"| `{_cell(_words(action))}` | {_cell(action.help or '')} |" for action in taken)
            yield ""


def _words(action: Action) -> str:
    """Return how an argument is written."""
    metavar = action.metavar or ("|".join(map(str, action.choices)) if action.choices else "")
    name = metavar if isinstance(metavar, str) else " ".join(metavar)
    if not action.option_strings:
        return name or action.dest
    return ", ".join(action.option_strings) + (f" {name}" if name else "")


def exit_codes() -> Iterator[str]:
    """Yield the exit codes."""
    yield "| code | name |"
    yield "|---|---|"
    yield from (f"| {code.value} | {code.name.lower().replace('_', ' ')} |" for code in Exit)


def metrics() -> Iterator[str]:
    """Yield what is told to Prometheus, a table for each subject."""
    for chapter in CHAPTERS:
        yield f"### {chapter.about}"
        yield ""
        yield "| metric | kind | labels | meaning |"
        yield "|---|---|---|---|"
        for family in chapter.families:
            labels = ", ".join(f"`{label}`" for label in (*chapter.labels, *family.labels))
            yield f"| `{family.shown}` | {family.kind} | {labels} | {_cell(family.meaning)} |"
        yield ""


def rules() -> Iterator[str]:
    """Yield the rules for Prometheus that are shipped."""
    yield "| alert | severity | lasts | when |"
    yield "|---|---|---|---|"
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            when = _cell(rule["expr"])
            yield f"| {rule['alert']} | {rule['labels']['severity']} | {rule.get('for', '')} | `{when}` |"


def readings() -> Iterator[str]:
    """Yield what the conditions of alerts can speak of."""
    yield "| reading | compared with | meaning |"
    yield "|---|---|---|"
    for name, topic in READINGS.items():
        yield f"| `{name}` | {_compared_with(topic)} | {topic.meaning} |"


def _compared_with(topic: Topic) -> str:
    if topic.words:
        words = [f"`{word}`" for word in topic.words]
        return " < ".join(words) if topic.kind == "level" else ", ".join(words)
    percentage = f", or a percentage of {topic.whole}" if topic.whole else ""
    plain = {"memory": "a size", "power": "watts", "percent": "a percentage", "span": "a time span"}
    named = {"celsius": "degrees C", "number": "a number", "flag": "nothing: true or false by itself"}
    return {**plain, **named}[topic.kind] + percentage


def addresses() -> Iterator[str]:
    """Yield the addresses of the web face."""
    yield "| address | what it is | parameters |"
    yield "|---|---|---|"
    for page in PAGES:
        words = [f"`{each.name}`" for each in page.query]
        says = page.says + (" Open." if page.open_to_all else "")
        path = page.path.replace(":path}", "}").replace("{wish}", "{start,stop,restart,reset}")
        yield f"| `{page.method} {path}` | {_cell(says)} | {', '.join(words)} |"
    yield "| `GET /ws` | The WebSocket. | |"


def _cell(text: str) -> str:
    """Return text that stays in its cell of a table."""
    return text.replace("|", "\\|")


PARTS: Final[Mapping[str, Callable[[], Iterator[str]]]] = {
    "lifecycle": lifecycle,
    "keys": keys,
    "commands": commands,
    "exit_codes": exit_codes,
    "metrics": metrics,
    "rules": rules,
    "readings": readings,
    "addresses": addresses,
}

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
