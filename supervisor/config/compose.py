"""YAML text becomes a tree. Aliases and merge keys are followed, with bounds on what they amount to."""

import re
from collections.abc import Iterator
from typing import Final, Literal, Protocol

import yaml
from msgspec import Struct
from yaml.reader import ReaderError

from supervisor.config.fault import Path, Report, quoted
from supervisor.config.tree import Entry, Node, Row, Scalar, Table

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEEPEST: Final = 64
_MOST_NODES: Final = 100_000  # after aliases are written out
_CORE: Final = "tag:yaml.org,2002:"
_TAGS: Final = {
    f"{_CORE}{name}"
    for name in ("map", "seq", "str", "null", "bool", "int", "float", "timestamp", "value", "merge")
}
_TAB_INDENT: Final = re.compile(r" *\t")
_WHOLE: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_DECIMAL: Final = re.compile(r"[-+]?[0-9]+\.[0-9]*(?:[eE][-+][0-9]+)?", re.ASCII)


class _Mark(Protocol):
    """A place in the text, as either parser of PyYAML gives it."""

    @property
    def line(self) -> int: ...


class _BoundsError(Exception):
    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


def parse_tree(text: str, report: Report) -> Node | None:
    """Return the tree of `text`; None, with a fault, where it is no YAML or passes the bounds."""
    try:
        _check_depth(text)
        root = yaml.compose(text, Loader=_LOADER)
        return None if root is None else _Grower(report).grow(root, ()).node
    except _BoundsError as error:
        report.fault((), str(error), line=error.line)
    except yaml.YAMLError as error:
        line, why = _syntax(text, error)
        report.fault((), why, line=line)
    return None


def _check_depth(text: str) -> None:
    """Refuse deep nesting before it is composed, which takes a C stack frame a level."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                raise _BoundsError(_line(event.start_mark), f"nested more than {_DEEPEST} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _line(mark: _Mark | None) -> int:
    """Return the line of a mark, counted from 1; 0 where the parser gave none."""
    return 0 if mark is None else mark.line + 1


def _syntax(text: str, error: yaml.YAMLError) -> tuple[int, str]:
    """Return (line, why) of what the YAML parser says."""
    if isinstance(error, ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return line, f"not YAML: {error.reason}"
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return 0, "not YAML: it cannot be parsed"
    line = error.problem_mark.line + 1
    if _TAB_INDENT.match(text.split("\n")[min(line - 1, text.count("\n"))]):
        return line, "not YAML: a tab indents it, and YAML takes spaces only"
    context = f" ({error.context})" if error.context else ""
    return line, f"not YAML: {error.problem or 'it cannot be parsed'}{context}"


class _Grown(Struct, frozen=True):
    node: Node
    size: int
    depth: int


class _Grower:
    """Turns composed nodes into ours. Each is turned once: an alias costs nothing, and is counted in full."""

    def __init__(self, report: Report) -> None:
        """Put every fault into `report`."""
        self._report = report
        self._grown: dict[int, _Grown] = {}
        self._growing: set[int] = set()

    def grow(self, node: yaml.Node, path: Path) -> _Grown:
        """Return our node; `path` is where it was met first."""
        known = self._grown.get(id(node))
        if known is not None:
            return known
        line = _line(node.start_mark)
        if id(node) in self._growing:
            raise _BoundsError(line, "an alias stands inside its own anchor")
        self._growing.add(id(node))
        grown = self._made(node, path)
        self._growing.discard(id(node))
        if grown.size > _MOST_NODES:
            raise _BoundsError(line, f"more than {_MOST_NODES} values once its aliases are written out")
        if grown.depth > _DEEPEST:
            raise _BoundsError(
                line, f"nested more than {_DEEPEST} levels deep once its aliases are written out"
            )
        self._grown[id(node)] = grown
        return grown

    def _made(self, node: yaml.Node, path: Path) -> _Grown:
        line = _line(node.start_mark)
        if node.tag not in _TAGS:
            self._report.fault(path, f"the tag {quoted(node.tag)} is not understood here", line=line)
        if isinstance(node, yaml.ScalarNode):
            return _Grown(Scalar(line, node.value, _kind(node.tag, node.value)), 1, 1)
        if isinstance(node, yaml.SequenceNode):
            items = [self.grow(item, (*path, index)) for index, item in enumerate(node.value)]
            return _sum(Row(line, tuple(item.node for item in items)), items)
        pairs = [(key, self.grow(value, _step(path, key))) for key, value in _pairs(node)]
        return _sum(self._table(line, pairs, path), [value for _, value in pairs])

    def _table(self, line: int, pairs: list[tuple[yaml.Node, _Grown]], path: Path) -> Table:
        entries: dict[str, Entry] = {}
        merged: list[Node] = []
        for key, value in pairs:
            at = _line(key.start_mark)
            if not isinstance(key, yaml.ScalarNode) or key.tag == f"{_CORE}null":
                self._report.fault(path, "a key must be a word", line=at)
            elif key.tag == f"{_CORE}merge":
                merged.extend(value.node.items if isinstance(value.node, Row) else (value.node,))
            elif key.value in entries:
                why = f"written twice; first on line {entries[key.value].line}"
                self._report.fault((*path, key.value), why, line=at)
            else:
                entries[key.value] = Entry(at, value.node)
        for under in merged:
            if isinstance(under, Table):
                entries = {**under.entries, **entries}
            else:
                self._report.fault(path, "<< takes a mapping or a list of mappings", line=under.line)
        return Table(line, entries)


def _step(path: Path, key: yaml.Node) -> Path:
    """Return the path of a key's value."""
    return (*path, key.value) if isinstance(key, yaml.ScalarNode) else path


def _pairs(node: yaml.Node) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """Yield the keys and values of a mapping."""
    yield from node.value


def _sum(node: Node, items: list[_Grown]) -> _Grown:
    """Return `node` with the size and depth that its items give it."""
    return _Grown(
        node, 1 + sum(item.size for item in items), 1 + max((item.depth for item in items), default=0)
    )


def _kind(tag: str, text: str) -> Literal["text", "null", "bool", "int", "float"]:
    """Return what a scalar is. YAML 1.1 reads `on`, `010`, `1:30` as true, 8, 90; here they are text."""
    match tag.removeprefix(_CORE):
        case "null":
            return "null"
        case "bool" if text.lower() in {"true", "false"}:
            return "bool"
        case "int" if _WHOLE.fullmatch(text):
            return "int"
        case "float" if _DECIMAL.fullmatch(text):
            return "float"
        case _:
            return "text"
