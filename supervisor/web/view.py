"""What the web face knows of the daemon at a moment, and what changed since another. No clock, no I/O."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

Document = Mapping[str, Any]

# What grows by itself while nothing happens. A change of nothing else is told only now and then.
AGEING: Final = frozenset({"age_s", "restart_in_s", "read_age_s", "report_age_s"})
NAMED: Final[Mapping[str, str]] = {"gpus": "uuid", "workers": "name"}


class View(Struct, frozen=True):
    """The daemon's last answer, when it came (monotonic; UTC for showing), and whether it is away now."""

    status: Document
    encoded: bytes  # the JSON of `status`
    alerts: Sequence[Any]
    read_s: float
    read_at: str
    away: str | None = None

    def web(self, now_s: float) -> Document:
        """Return what is added to the document of Status."""
        daemon = "ok" if self.away is None else f"away: {self.away}"
        return {"read_at": self.read_at, "stale_s": round(max(0.0, now_s - self.read_s), 1), "daemon": daemon}

    def body(self, now_s: float) -> bytes:
        """Return the JSON of Status, with `web`."""
        return self.encoded[:-1] + b',"web":' + msgspec.json.encode(self.web(now_s)) + b"}"


def view_of(status: Document, alerts: Sequence[Any], read_s: float, read_at: str) -> View:
    """Return what the daemon just told; raises ValueError where that is no document of Status."""
    for key, name in NAMED.items():
        parts: object = status.get(key) if isinstance(status, dict) else None  # pyright: ignore[reportUnnecessaryIsInstance]
        if not isinstance(parts, list) or not all(
            _has_name(part, name) for part in cast("list[object]", parts)
        ):
            raise ValueError(f"its {key} are no list of things with a {name}")
    if not all(isinstance(each.get("reported", {}), dict | None) for each in status["workers"]):
        raise ValueError("what a worker reports is no object")
    return View(status, msgspec.json.encode(status), alerts, read_s, read_at)


def changes(old: Document, new: Document, *, ages: bool) -> dict[str, Any]:
    """Return what is new: `status`, `gpus`, `workers`, `gone`, `order`; those without news are left out.

    With `ages` what grew older counts as changed too. Where it is not the same GPUs any more, `status` has
    all of them.
    """
    told: dict[str, Any] = {}
    head = {
        key: value
        for key, value in new.items()
        if key not in {"gpus", "workers"} and (key not in old or old[key] != value)
    }
    gpus_before, gpus_now = _named(old, "gpus"), _named(new, "gpus")
    others = list(gpus_before) != list(gpus_now)
    if others:
        head["gpus"] = new["gpus"]
    if head:
        told["status"] = head
    before, now = _named(old, "workers"), _named(new, "workers")
    gpus = [] if others else _changed(gpus_before, gpus_now, ages=ages)
    workers = _changed(before, now, ages=ages)
    gone = [name for name in before if name not in now]
    parts = (("gpus", gpus), ("workers", workers), ("gone", gone))
    told |= {key: value for key, value in parts if value}
    if list(before) != list(now):
        told["order"] = list(now)
    return told


def merged(old: Document, new: Document, told: Document) -> Document:
    """Return what somebody knows who knew `old` and was told the `changes` to `new`."""
    parts = {}
    for key, name in NAMED.items():
        if key in told.get("status", ()):  # it was told whole
            continue
        fresh = {each[name] for each in told.get(key, ())}
        before = _named(old, key)
        parts[key] = [each if each[name] in fresh else before[each[name]] for each in new.get(key, ())]
    return {**new, **parts}


def _named(status: Document, key: str) -> dict[str, Any]:
    return {each[NAMED[key]]: each for each in status[key]}


def _has_name(part: object, name: str) -> bool:
    return isinstance(part, dict) and isinstance(cast("dict[str, object]", part).get(name), str)


def _changed(old: Mapping[str, Any], new: Mapping[str, Any], *, ages: bool) -> list[Any]:
    if ages:
        return [each for name, each in new.items() if old.get(name) != each]
    return [each for name, each in new.items() if name not in old or _still(old[name]) != _still(each)]


def _still(each: Mapping[str, Any]) -> dict[str, Any]:
    """Return what does not grow by itself."""
    plain = {key: value for key, value in each.items() if key not in AGEING}
    if plain.get("reported"):
        plain["reported"] = {key: value for key, value in plain["reported"].items() if key not in AGEING}
    return plain
