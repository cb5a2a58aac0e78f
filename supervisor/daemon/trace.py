"""A recorded course of memory, read from CSV."""

import csv
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from supervisor.model.reading import Missing

WANTED: Final = ("time_s", "worker", "memory_bytes")
OPTIONAL: Final = ("vram_bytes", "host_available_bytes")
MOST_BYTES: Final = 1 << 60  # beyond any machine, within an array of 64 bits
UNKNOWN: Final = -1
EMPTY: Final = Missing("the trace has no reading here")


class TraceError(Exception):
    """A trace cannot be read; the text is `line N: why`."""


class Series:
    """The readings of one worker, oldest first, in 24 bytes each."""

    def __init__(self) -> None:
        """Begin without any."""
        self.times_s = array("d")
        self.memory_bytes = array("q")  # UNKNOWN where the cell is empty
        self.vram_bytes = array("q")


class Trace:
    """All readings of a file."""

    def __init__(self) -> None:
        """Begin without any."""
        self.times_s = array("d")  # at which anything was read, ascending
        self.available_bytes = array("q")  # of the host, at each of them
        self.workers: dict[str, Series] = {}


def read_trace(lines: Iterable[str]) -> Trace:
    """Read a trace; raises TraceError with the line of the first thing that is wrong.

    The first line names the columns: time_s, worker and memory_bytes, and, where they are known, vram_bytes
    and host_available_bytes; others are passed over. Times are seconds from any beginning and never go back;
    sizes are whole numbers of bytes, and an empty cell is a reading that could not be had.
    """
    rows = csv.reader(lines, strict=True)
    trace = Trace()
    try:
        columns = _columns(next(rows, ()))
        for row in rows:
            if row:
                _add(trace, row, columns, rows.line_num)
    except (csv.Error, UnicodeDecodeError) as error:
        raise TraceError(f"line {rows.line_num}: no CSV: {error}") from error
    if not trace.times_s:
        raise TraceError(f"line {max(rows.line_num, 1)}: it ends without a reading")
    return trace


def _columns(names: Sequence[str]) -> Mapping[str, int]:
    stripped = [name.strip() for name in names]
    for name in WANTED:
        if name not in stripped:
            raise TraceError(f"line 1: it must name the columns, and there is no {name}")
    twice = [name for name in (*WANTED, *OPTIONAL) if stripped.count(name) > 1]
    if twice:
        raise TraceError(f"line 1: the column {twice[0]} is there twice")
    return {name: stripped.index(name) for name in (*WANTED, *OPTIONAL) if name in stripped}


def _add(trace: Trace, row: Sequence[str], columns: Mapping[str, int], line: int) -> None:
    cells = dict(_cells(row, columns, line))
    at_s = _time(cells["time_s"], line)
    memory = _size(cells["memory_bytes"], "memory_bytes", line)
    vram = _size(cells.get("vram_bytes", ""), "vram_bytes", line)
    available = _size(cells.get("host_available_bytes", ""), "host_available_bytes", line)
    if trace.times_s and at_s < trace.times_s[-1]:
        raise TraceError(f"line {line}: time_s goes back from {trace.times_s[-1]:g} to {at_s:g}")
    if not trace.times_s or at_s > trace.times_s[-1]:
        trace.times_s.append(at_s)
        trace.available_bytes.append(available)
    elif available != UNKNOWN:
        trace.available_bytes[-1] = available
    name = cells["worker"]
    if not name:
        raise TraceError(f"line {line}: it names no worker")
    series = trace.workers.get(name)
    if series is None:
        series = trace.workers[name] = Series()
    if series.times_s and series.times_s[-1] == at_s:
        raise TraceError(f"line {line}: a second reading of {name} at {at_s:g}")
    series.times_s.append(at_s)
    series.memory_bytes.append(memory)
    series.vram_bytes.append(vram)


def _cells(row: Sequence[str], columns: Mapping[str, int], line: int) -> Iterator[tuple[str, str]]:
    for name, index in columns.items():
        if index >= len(row):
            raise TraceError(f"line {line}: it has {len(row)} cells, and {name} is the column {index + 1}")
        yield name, row[index].strip()


def _time(text: str, line: int) -> float:
    try:
        at_s = float(text)
    except ValueError:
        at_s = math.nan
    if not math.isfinite(at_s):
        raise TraceError(f"line {line}: time_s must be a number of seconds, not {text!r}")
    return at_s


def _size(text: str, name: str, line: int) -> int:
    if not text:
        return UNKNOWN
    if not (text.isascii() and text.isdecimal()) or int(text[:20]) > MOST_BYTES:
        raise TraceError(f"line {line}: {name} must be a whole number of bytes, not {text[:40]!r}")
    return int(text)
