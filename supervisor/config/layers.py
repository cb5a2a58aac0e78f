"""Lays a worker's keys over `defaults`, and both over its preset. The written key wins."""

import shlex
from typing import Final

from supervisor.config.fault import Path, Report
from supervisor.config.presets import PRESETS, Server, keys_of
from supervisor.config.tree import Entry, Node, Row, Scalar, Table, tree_of

_PROBES: Final = frozenset({"ready", "health", "drain"})
_TARGETS: Final = frozenset(
    {"http", "tcp", "notify", "after", "llama", "command", "guard"}
)  # of a probe, one is chosen


def layered(written: Table, defaults: Table, path: Path, report: Report) -> Table:
    """Return the worker's keys with `defaults` and its preset beneath them."""
    table = _merged(written, defaults, whole=False)
    preset = table.entries.get("preset")
    if preset is None or not isinstance(preset.node, Scalar) or preset.node.text not in PRESETS:
        return table
    report.saw((*path, "preset"), preset.line)
    keys = tree_of(keys_of(preset.node.text, _server(table), path, report), preset.line)
    if not isinstance(keys, Table):
        return table
    whole = _merged(table, keys, whole=False)
    _note(whole, keys, path, report)
    return whole


def _note(whole: Table, keys: Table, path: Path, report: Report) -> None:
    """Tell the report which values of a preset's `keys` count in the `whole`."""
    for key, entry in keys.entries.items():
        kept = whole.entries.get(key)
        if kept is None:
            continue
        if isinstance(entry.node, Table) and isinstance(kept.node, Table):
            _note(kept.node, entry.node, (*path, key), report)
        elif isinstance(entry.node, Scalar) and kept.node is entry.node:
            report.fill((*path, key), entry.node.text)


def _merged(over: Table, under: Table, *, whole: bool) -> Table:
    """Return `over` with what it lacks from `under`; `whole` for a probe, of which one target counts."""
    drop: frozenset[str] = frozenset()
    if whole and over.entries.keys() & _TARGETS:
        drop = _TARGETS
    elif not whole and "gpus" in over.entries:
        drop = frozenset({"gpu_count"})
    entries = {key: entry for key, entry in under.entries.items() if key not in drop}
    for key, entry in over.entries.items():
        beneath = entries.get(key)
        if beneath is not None and isinstance(entry.node, Table) and isinstance(beneath.node, Table):
            joined = _merged(entry.node, beneath.node, whole=key in _PROBES)
            entries[key] = Entry(entry.line, joined)
        else:
            entries[key] = entry
    return Table(over.line, entries)


def _server(table: Table) -> Server:
    """Return what is written of the worker, as far as a preset looks at it."""
    return Server(
        _command(table), _environment(table), frozenset(key for key in table.entries if _chosen(table, key))
    )


def _chosen(table: Table, key: str) -> bool:
    """Say whether `key` is written; a probe only once it names its target, or is null."""
    node = table.entries[key].node
    return key not in _PROBES or not isinstance(node, Table) or bool(node.entries.keys() & _TARGETS)


def _command(table: Table) -> tuple[str, ...]:
    node = _node(table, "command")
    if isinstance(node, Row):
        return tuple(item.text for item in node.items if isinstance(item, Scalar))
    try:
        return tuple(shlex.split(node.text)) if isinstance(node, Scalar) else ()
    except ValueError:
        return ()  # told when it is read


def _environment(table: Table) -> dict[str, str]:
    node = _node(table, "environment")
    if not isinstance(node, Table):
        return {}
    return {key: entry.node.text for key, entry in node.entries.items() if isinstance(entry.node, Scalar)}


def _node(table: Table, key: str) -> Node | None:
    entry = table.entries.get(key)
    return None if entry is None else entry.node
