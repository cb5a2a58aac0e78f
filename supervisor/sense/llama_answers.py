"""Reading what a llama.cpp server answers, which may be anything."""

import math
import re
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from supervisor.model.reading import Missing
from supervisor.model.serving import Serving, SlotProgress

MOST_SLOTS: Final = 256  # busy ones whose progress is kept; a server has a handful
MOST_MODELS: Final = 16  # loaded ones of a router that are asked; its own limit is 4
MODEL_CHARACTERS: Final = 200
# The counters that move while it works, in the order of SlotProgress: prompt tokens, decoded tokens.
METRIC: Final = re.compile(rb"^llamacpp:([a-z_]{1,60}) ([0-9.e+]{1,30})$", re.MULTILINE)
MOST_COUNTED: Final = 1 << 53  # beyond it no counter is one, and JSON does not carry it
Count = Annotated[int, Meta(ge=-1, le=MOST_COUNTED)]


class UnreadableError(Exception):
    """The answer is not what such a server answers."""


class Props(Struct, frozen=True):
    """What is wanted of /props."""

    is_sleeping: bool = False
    role: str = ""  # "router" where it starts servers of its own


class _Token(Struct):
    n_decoded: Count = 0


class _Slot(Struct):
    is_processing: bool
    id: Count = -1
    id_task: Count = -1
    n_prompt_tokens_processed: Count | None = None
    next_token: list[_Token] | _Token | None = None  # a list since 2025


class _Status(Struct):
    value: str = ""


class _Model(Struct):
    id: str
    status: _Status = msgspec.field(default_factory=_Status)


class _Models(Struct):
    data: list[_Model]


def props_of(body: bytes) -> Props:
    """Read /props; one that cannot be read tells neither of sleep nor of routing."""
    try:
        return msgspec.json.decode(body, type=Props)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Props()


def slots_of(body: bytes, model: str = "") -> Serving:
    """Read /slots. Raises UnreadableError."""
    try:
        slots = msgspec.json.decode(body, type=list[_Slot])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableError(f"cannot read its slots: {error}") from error
    busy = [slot for slot in slots if slot.is_processing]
    steps = tuple(step for slot in busy[:MOST_SLOTS] if (step := _progress(slot, model)) is not None)
    if busy and not steps:
        return Serving("up", len(busy), Missing("its slots tell no progress"))
    return Serving("up", len(busy), steps)


def metrics_of(body: bytes, model: str = "") -> Serving:
    """Read /metrics: its gauges say how busy it is, its counters stand for the progress of all slots.

    Raises UnreadableError.
    """
    found = {name.decode(): _number(value) for name, value in METRIC.findall(body)}
    if "requests_processing" not in found:
        raise UnreadableError("its metrics hold no llamacpp:requests_processing")
    busy = found["requests_processing"] + found.get("requests_deferred", 0)
    if "prompt_tokens_total" not in found:
        return Serving("up", busy, Missing("its metrics tell no progress"))
    decoded = found.get("tokens_predicted_total", 0) + found.get("n_decode_total", 0)
    step = SlotProgress(-1, -1, found["prompt_tokens_total"], decoded, model)
    return Serving("up", busy, (step,) if busy else ())


def loaded_of(body: bytes) -> tuple[str, ...]:
    """Read /models of a router: those that are loaded and awake. Raises UnreadableError."""
    try:
        models = msgspec.json.decode(body, type=_Models).data
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableError(f"cannot read its models: {error}") from error
    loaded = [one.id for one in models if one.status.value == "loaded"]
    return tuple(name for name in loaded if len(name) <= MODEL_CHARACTERS)[:MOST_MODELS]


def together(looks: list[Serving]) -> Serving:
    """Return the looks at the models of a router as one."""
    state: Literal["up", "blocked"] = "blocked" if any(one.state == "blocked" for one in looks) else "up"
    busy: int | Missing = 0
    progress: tuple[SlotProgress, ...] | Missing = ()
    for one in looks:
        busy = busy if isinstance(busy, Missing) else _plus(busy, one.busy)
        progress = progress if isinstance(progress, Missing) else _joined(progress, one.progress)
    return Serving(state, busy, progress)


def _plus(busy: int, more: int | Missing) -> int | Missing:
    return more if isinstance(more, Missing) else busy + more


def _joined(
    progress: tuple[SlotProgress, ...], more: tuple[SlotProgress, ...] | Missing
) -> tuple[SlotProgress, ...] | Missing:
    return more if isinstance(more, Missing) else progress + more


def _progress(slot: _Slot, model: str) -> SlotProgress | None:
    if slot.n_prompt_tokens_processed is None and slot.next_token is None:
        return None
    tokens = slot.next_token if isinstance(slot.next_token, list) else [slot.next_token or _Token()]
    decoded = max((token.n_decoded for token in tokens), default=0)
    return SlotProgress(slot.id, slot.id_task, slot.n_prompt_tokens_processed or 0, decoded, model)


def _number(text: bytes) -> int:
    try:
        number = float(text)
    except ValueError:
        number = math.inf
    if not number <= MOST_COUNTED:
        raise UnreadableError("its metrics hold a number that is none")
    return int(number)
