"""The configuration file: what it comes to, and its text with the secrets taken out."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import yaml

from supervisor import config
from supervisor.cli.diagnose.facts import Configuration
from supervisor.cli.diagnose.scrub import NAME, REMOVED, Scrubber, is_secret, parts_of
from supervisor.config.compose import parse_tree
from supervisor.config.fault import Report
from supervisor.config.source import read_source
from supervisor.config.tree import Node, Row, Scalar, Table
from supervisor.model.reading import Missing

LINE: Final = re.compile(r"[\"']?([\w.-]+)[\"']?[ \t]*[:=][ \t]*[\"']?([^\"'#,}\n]+)")
QUOTES: Final = str.maketrans("", "", "\"'")
URL: Final = re.compile(r"://[^\s/?#\"']*@[^\s\"']*")
Plain = str | list["Plain"] | dict[str, "Plain"]


def read_configuration(path: Path) -> Configuration:
    """Load the file as the daemon would; never raises for what it holds."""
    loaded = config.load(path, machine=config.this_machine())
    text, why = read_source(path)
    if why:
        return Configuration(str(path), exists=not _is_absent(path), loaded=loaded, text=Missing(why))
    root = parse_tree(text, Report(str(path)))
    if root is None:
        unread = Missing("left out: it cannot be parsed, so that not every secret in it can be found")
        return Configuration(
            str(path), exists=True, loaded=loaded, text=unread, secrets=tuple(_guessed(text))
        )
    secrets = tuple(dict.fromkeys(part for value in _secrets(root, "", under="") for part in parts_of(value)))
    shown = yaml.safe_dump(
        Scrubber(secrets).document(_plain(root, "", under="")), sort_keys=False, allow_unicode=True
    )
    return Configuration(str(path), exists=True, loaded=loaded, text=shown, secrets=secrets)


def _is_absent(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # it is hidden from us
        return False
    return False


def _secrets(node: Node, name: str, *, under: str) -> Iterator[str]:
    """Yield every secret of the tree; `under` is the mapping that it stands in."""
    match node:
        case Scalar():
            yield from _secrets_of(node, name, under=under)
        case Table():
            for key, entry in node.entries.items():
                yield from _secrets(entry.node, key, under=name)
        case Row():
            for flag, item in zip(("", *map(_flag, node.items)), node.items, strict=False):
                yield from _secrets(item, flag, under=name)


def _secrets_of(value: Scalar, name: str, *, under: str) -> Iterator[str]:
    option, _, given = value.text.partition("=")
    if _hidden(name, value.text, under=under):
        yield value.text
    elif name == "command":  # one string, that is split as a shell would
        words = tuple(Scalar(value.line, word.translate(QUOTES)) for word in value.text.split())
        yield from _secrets(Row(value.line, words), name, under="")
    elif option.startswith("--") and NAME.search(option):
        yield given
    yield from URL.findall(value.text)


def _plain(node: Node, name: str, *, under: str) -> Plain:
    """Return the tree as plain values, its secrets taken out."""
    match node:
        case Scalar():
            return REMOVED if _hidden(name, node.text, under=under) else node.text
        case Table():
            return {key: _plain(entry.node, key, under=name) for key, entry in node.entries.items()}
        case Row():
            flags = ("", *map(_flag, node.items))
            return [_plain(item, flag, under=name) for flag, item in zip(flags, node.items, strict=False)]


def _hidden(name: str, text: str, *, under: str) -> bool:
    """Tell whether a value is not to be shown. The path of a webhook is what gives access to it."""
    if under == "environment":
        return is_secret(name, text)
    return bool(text) and (name == "webhook" or NAME.search(name) is not None)


def _flag(node: Node) -> str:
    """Return the option, `--api-key`, whose value the next word of a command is; empty where it is none."""
    return (
        node.text if isinstance(node, Scalar) and node.text.startswith("--") and "=" not in node.text else ""
    )


def _guessed(text: str) -> Iterator[str]:
    """Yield what looks like secrets in a file that is no YAML, so that nothing that quotes it shows them."""
    for name, value in LINE.findall(text):
        if is_secret(name, value.strip()):
            yield from parts_of(value.strip())
    for url in URL.findall(text):
        yield from parts_of(url)
