"""Says in lines for people what changed between two plans. Values that may be secrets are never shown."""

from collections.abc import Iterator, Mapping
from typing import Final, cast

from msgspec import Struct
from msgspec.structs import fields

from supervisor.config.kinds import show_signal
from supervisor.model.plan import Plan
from supervisor.model.quantity import format_percent, format_size, format_span

_PERCENTS: Final = frozenset(
    {
        *("full", "max_used", "high", "critical", "extreme", "hysteresis"),
        *("restart_above", "power_near", "max_age_jitter", "cpu_quota"),
    }
)
_HIDDEN: Final = frozenset({"command", "environment", "webhook"})  # may hold secrets
_DERIVED: Final = frozenset({"condition"})  # from what is shown beside it
_SUFFIXES: Final = ("_bytes", "_s", "_c")
_LONGEST: Final = 80
_Strings = Mapping[str, str]
_Objects = Mapping[str, object]


def difference(old: Plan, new: Plan) -> tuple[str, ...]:
    """Return a line for each thing that changed, none where the plans mean the same."""
    lines = [f"worker {name}: removed" for name in old.workers if name not in new.workers]
    lines += [f"worker {name}: added" for name in new.workers if name not in old.workers]
    for name, worker in new.workers.items():
        before = old.workers.get(name)
        if before is not None and before != worker:
            lines += [f"worker {name}: {line}" for line in _changes(before, worker)]
    for field in fields(Plan):
        if field.name not in {"workers", "source"}:
            before, after = getattr(old, field.name), getattr(new, field.name)
            lines += _change(field.name, before, after)
    return tuple(lines)


def _changes(old: Struct, new: Struct, prefix: str = "") -> Iterator[str]:
    """Yield a line for each field of two structs of one type that differs."""
    for field in fields(old):
        before, after = getattr(old, field.name), getattr(new, field.name)
        yield from _change(f"{prefix}{field.name}", before, after)


def _change(name: str, old: object, new: object) -> Iterator[str]:
    if old == new:
        return
    key = name.rpartition(".")[2]
    if key == "environment":
        yield from _variables(name, cast("_Strings", old), cast("_Strings", new))
    elif isinstance(old, Struct) and isinstance(new, Struct) and type(old) is type(new):
        yield from _changes(old, new, f"{name}.")
    elif key in _HIDDEN:
        yield f"{_plain(name)} changed"
    else:
        before, after = _shown(key, old), _shown(key, new)
        if before == after:  # rounded for people to the same
            before, after = str(old), str(new)
        yield f"{_plain(name)} {before} -> {after}"


def _variables(name: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    """Yield which environment variables differ, without their values."""
    for variable in sorted({*old, *new}):
        if variable not in new:
            yield f"{name}.{variable} removed"
        elif variable not in old:
            yield f"{name}.{variable} added"
        elif old[variable] != new[variable]:
            yield f"{name}.{variable} changed"


def _plain(name: str) -> str:
    """Return the name of a field as the file knows it: without its unit."""
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def _shown(key: str, value: object) -> str:
    """Write a value for people."""
    text = str(value)
    if value is None or value in ((), {}):
        text = "none"
    elif isinstance(value, Struct):
        tag = value.__struct_config__.tag
        parts = [
            _shown(field.name, getattr(value, field.name))
            for field in fields(value)
            if field.name not in _DERIVED
        ]
        text = " ".join([*([tag] if isinstance(tag, str) else []), *parts])
    elif key in _HIDDEN:
        text = "..."
    elif isinstance(value, int) and key.endswith("_bytes"):
        text = format_size(value)
    elif isinstance(value, int | float) and key in _PERCENTS:
        text = format_percent(value)
    elif isinstance(value, int | float) and key.endswith("_s"):
        text = format_span(value)
    elif isinstance(value, int) and key == "stop_signal":
        text = show_signal(value)
    elif isinstance(value, tuple):
        text = ", ".join(_shown("", item) for item in cast("tuple[object, ...]", value))
    elif isinstance(value, Mapping):
        text = " ".join(f"{name}={item}" for name, item in cast("_Objects", value).items())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
