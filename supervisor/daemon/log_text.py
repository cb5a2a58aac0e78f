"""Lines of log as people read them: `worker healthy worker=chat age=74s/3600s memory=2.27GiB/8GiB`."""

from collections.abc import Mapping
from typing import Final

from structlog.processors import LogfmtRenderer

from supervisor.model.action import Field
from supervisor.model.quantity import format_size

_UNKNOWN: Final = "unknown"
_SHORT_S: Final = 10.0  # below it fractions of a second count
_RENDER: Final = LogfmtRenderer(bool_as_flag=False)


def text_of(event: str, fields: Mapping[str, Field]) -> str:
    """Return an event with its fields in logfmt: sizes and spans with their units, a value with its limit."""
    said = {name: _safe(value) for name, value in _joined(fields).items()}
    return " ".join(part for part in (_safe(event), _RENDER(None, "", said)) if part)


def _joined(fields: Mapping[str, Field]) -> dict[str, str]:
    """Write `age_s` and `max_age_s`, `memory_bytes` and `memory_cap_bytes` as one each: `age=74s/3600s`."""
    said: dict[str, str] = {}
    limits = {limit for name in fields for limit in _limits(name) if limit in fields}
    for name, value in fields.items():
        if name in limits:
            continue
        stem, unit = _split(name)
        text = _write(value, unit)
        for limit in limits.intersection(_limits(name)):
            text = f"{text}/{_write(fields[limit], unit)}"
        said[_key(stem)] = text
    return said


def _limits(name: str) -> tuple[str, ...]:
    stem, unit = _split(name)
    return (f"{stem}_cap_{unit}", f"max_{stem}_{unit}") if unit else ()


def _split(name: str) -> tuple[str, str]:
    for unit in ("bytes", "s"):
        if name.endswith(f"_{unit}"):
            return name.removesuffix(f"_{unit}"), unit
    return name, ""


def _write(value: Field, unit: str) -> str:
    if value is None:
        return _UNKNOWN
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) or not unit:
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    if unit == "bytes":
        return format_size(int(value)) if value == value and abs(value) != float("inf") else str(value)  # noqa: PLR0124 - not NaN
    return f"{value:.0f}s" if abs(value) >= _SHORT_S else f"{round(value, 3):g}s"


def _safe(text: str) -> str:
    """Return `text` with what could move a terminal's cursor, or a line's end, written out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _key(name: str) -> str:
    return "_".join(_safe(name).split()) or "_"
