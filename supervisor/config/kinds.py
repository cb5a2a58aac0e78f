"""The kinds of value a key can take: how each is read, shown, and described to an editor."""

import signal
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from supervisor.model.quantity import (
    format_percent,
    format_size,
    format_span,
    parse_percent,
    parse_size,
    parse_span,
)


class Kind(Struct, frozen=True):
    """One kind: `parse` raises ValueError with a sentence, `show` writes a parsed value as a file would."""

    parse: Callable[[str], int | float]
    show: Callable[[Any], str]
    schema: Mapping[str, object]


def parse_signal(text: str) -> int:
    """Read a signal as `SIGTERM`, `TERM` or `15`."""
    name = text.strip().upper()
    if name.isascii() and name.isdigit() and len(name) < 3:  # noqa: PLR2004 - signals end at 64
        number = int(name)
        if number in signal.valid_signals():
            return number
    else:
        found = signal.Signals.__members__.get(name if name.startswith("SIG") else f"SIG{name}")
        if found is not None:
            return int(found)
    raise ValueError(f"{text.strip()[:40]!r} is no signal: write SIGTERM, TERM or 15")


def show_signal(number: int) -> str:
    """Write a signal by its name where it has one."""
    return signal.Signals(number).name if number in {*signal.Signals} else str(number)


_SIZE_PATTERN: Final = r"^\s*([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*([KMGTPEkmgtpe]([iI]?[bB])?|[bB])?\s*$"
_SPAN_PATTERN: Final = r"^\s*([0-9]+(\.[0-9]*)?|\.[0-9]+)[0-9.A-Za-zµμ\s]*$"
_PERCENT_PATTERN: Final = r"^\s*([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*%\s*$"


def _pattern_or(pattern: str, number: str, example: str) -> Mapping[str, object]:
    """Return the schema of a text of `pattern`, or a bare number."""
    return {
        "anyOf": [{"type": "string", "pattern": pattern}, {"type": number, "minimum": 0}],
        "examples": [example],
    }


KINDS: Final[Mapping[str, Kind]] = {
    "size": Kind(parse_size, format_size, _pattern_or(_SIZE_PATTERN, "integer", "8G")),
    "span": Kind(parse_span, format_span, _pattern_or(_SPAN_PATTERN, "number", "1min 30s")),
    "percent": Kind(
        parse_percent, format_percent, {"type": "string", "pattern": _PERCENT_PATTERN, "examples": ["85%"]}
    ),
    "signal": Kind(parse_signal, show_signal, {"type": ["string", "integer"], "examples": ["SIGTERM"]}),
}

Size = Annotated[int, Meta(extra={"kind": "size"})]
Limit = Annotated[int, Meta(extra={"kind": "size"}, gt=0)]
Span = Annotated[float, Meta(extra={"kind": "span"})]
Period = Annotated[float, Meta(extra={"kind": "span"}, gt=0)]
Percent = Annotated[float, Meta(extra={"kind": "percent"})]
Share = Annotated[float, Meta(extra={"kind": "percent"}, gt=0, le=1)]
Signal = Annotated[int, Meta(extra={"kind": "signal"})]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Words = Annotated[tuple[str, ...], Meta(extra={"kind": "command"})]
