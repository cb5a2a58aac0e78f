"""Loads a configuration file: every fault at once, or the plan."""

from pathlib import Path as File
from typing import Final

from msgspec import Struct

from supervisor.config.build import plan_of
from supervisor.config.checks import check
from supervisor.config.compose import parse_tree
from supervisor.config.fault import Fault, Report
from supervisor.config.later import later_of
from supervisor.config.layers import layered
from supervisor.config.lint import lint
from supervisor.config.machine import Machine
from supervisor.config.read import Reader
from supervisor.config.shape import ConfigShape
from supervisor.config.source import read_source
from supervisor.config.tree import Entry, Node, Row, Scalar, Table
from supervisor.model.plan import Plan

_MOST_LAYERED: Final = 500_000  # values of `defaults` times workers


class Loaded(Struct, frozen=True):
    """What a file came to: a plan, or faults; `later` is not acted on yet, `filled` is added by presets."""

    plan: Plan | None
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()
    later: tuple[str, ...] = ()
    filled: tuple[str, ...] = ()


def load(path: File, *, machine: Machine | None = None) -> Loaded:
    """Read and check a file. Never raises for what a file, or its absence, can hold.

    Reads the disk, and the user database for the lints: not for the loop. Without `machine` nothing is
    judged by the machine.
    """
    report = Report(str(path))
    text, why = read_source(path)
    if why:
        report.fault((), why, line=0)
        return Loaded(None, report.faults())
    return load_text(text, report, machine or Machine())


def load_text(text: str, report: Report, machine: Machine) -> Loaded:
    """Check the text of a file; its faults and warnings go through `report`."""
    root = parse_tree(text, report)
    if root is None or not isinstance(root, Table):
        if not report.bad():
            line = 0 if root is None else root.line
            report.fault((), "the file must be a mapping of keys, such as 'workers: {}'", line=line)
        return Loaded(None, report.faults())
    shape = Reader(report).read(_with_layers(root, report), ConfigShape, ())
    check(shape, report)
    plan = plan_of(shape, report)
    if report.bad():
        return Loaded(None, report.faults(), report.warnings())
    lint(shape, plan, machine, report)
    return Loaded(plan, (), report.warnings(), later_of(plan), report.filled())


def _with_layers(root: Table, report: Report) -> Table:
    """Return the file with `defaults` and presets laid under each worker; `defaults` first."""
    workers, defaults = root.entries.get("workers"), root.entries.get("defaults")
    if workers is None or not isinstance(workers.node, Table):
        return root
    under = defaults.node if defaults is not None and isinstance(defaults.node, Table) else Table(0)
    if _count(under) * len(workers.node.entries) > _MOST_LAYERED:
        report.fault(("defaults",), "is too large for so many workers", line=defaults.line if defaults else 0)
        return Table(root.line)
    named: dict[str, Entry] = {}
    for name, entry in workers.node.entries.items():
        node = (
            Table(entry.line) if isinstance(entry.node, Scalar) and entry.node.kind == "null" else entry.node
        )
        if isinstance(node, Table):
            report.saw(("workers", name), entry.line)
            node = layered(node, under, ("workers", name), report)
        named[name] = Entry(entry.line, node)
    entries = {key: entry for key, entry in root.entries.items() if key not in {"defaults", "workers"}}
    first = {} if defaults is None else {"defaults": defaults}
    return Table(
        root.line, {**first, **entries, "workers": Entry(workers.line, Table(workers.node.line, named))}
    )


def _count(node: Node) -> int:
    """Return the number of values in a tree."""
    if isinstance(node, Table):
        return 1 + sum(_count(entry.node) for entry in node.entries.values())
    return 1 + sum(_count(item) for item in node.items) if isinstance(node, Row) else 1
