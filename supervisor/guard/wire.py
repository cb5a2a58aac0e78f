"""The words between a worker and its supervisor, version 1.

This is all that a worker in another language has to know.

**The socket.** `GPU_SUPERVISOR_SOCKET` is the path of a Unix datagram socket of the supervisor's; each
worker has one to itself. The worker connects a non-blocking datagram socket of its own to it and binds that
to any name, on Linux by autobind (bind to an empty address). It binds after it has connected: then the
kernel lets no other socket write to it. A message that cannot be sent at once is dropped. After
ECONNREFUSED or ENOTCONN the supervisor has gone: the worker connects again now and then, and throws away
what came while it was not connected. What the supervisor has said before is unknown from then on; it says
it again after the first report.

**A message** is one datagram: a JSON object in UTF-8, its first byte `{`, at most 4096 bytes; a longer one
is ignored as a whole. `"v"` is 1; a message of another version is ignored. Unknown keys are ignored. An
absent key means null, or false. Texts have at most 200 characters. A number that is not finite is null.
Whole numbers are of 64 bits, others up to 10**18, and none is negative. A report with anything of another
kind is ignored as a whole, its heartbeat too.

**From the worker: a report.** It is state, and whole: counts go up from the start of the process, so a
report that is lost costs nothing. Send one at each change, and a few times a second at most.

* `v`: 1. `seq`: the number of the message, from 1 on.
* `ready`: true from when the worker can serve. The same as `READY=1` of sd_notify(3).
* `beat`: true where the work loop itself sent this since the last one. The same as `WATCHDOG=1`.
* `drained`: true from when nothing is left to finish after a `drain`, and nothing new is taken on.
* `level`: the worker's own memory pressure: `normal`, `high`, `critical` or `extreme`; null where it has
  none.
* `memory`: the keys of `/stats`: `cuda_available` (a boolean), `current_pressure` (as `level`), the counts
  `oom_events`, `recoveries` and `degradation_level`, the sizes `allocated_mb`, `reserved_mb`, `total_mb` of
  2**20 bytes and `allocated_gb`, `reserved_gb`, `total_gb` of 2**30, the percentages `usage_percent` and
  `allocated_percent`. What cannot be read is null, and `missing` says why: an object of a text for each
  such key.
* `advice`: what the worker makes do with: `clear_cache` (a boolean), `batch_size` (a whole number or null),
  `input_size` ([width, height] or null), `cpu_fallback` (a boolean), `stages_off` (an array of texts).
* `progress`: `job` (a text), `state` (`queued`, `processing`, `completed` or `failed`), `position` in the
  queue, `batch_size`, the items `done` and in `total` (whole numbers; null where unknown, `done` never),
  `throughput` in items a second, `eta_s` in seconds.
* `batches`: how batches went: `success_rate` and `batch_efficiency` from 0 to 1, `throughput` in items a
  second, `recoveries` (a count), `peak_memory_bytes`.
* `poisoned`: why nothing in this process can go on, as one text. The process then ends with exit code 79.

Where the whole does not fit, the least important goes first: `batches`, then `memory.missing`, `advice`,
`memory`. The rest always fits.

**From the supervisor: its words.** Sent after the first report, and at each change, to the address of the
last report.

* `v`: 1.
* `host`, `gpu`: the pressure of the machine's memory, and of the worst of the worker's GPUs; in the words
  of `level`, or null for unknown.
* `advice`: an array. `cool-down`: the GPU is too hot, pause between batches. `ease-off`: it is near its
  power limit. Unknown words are ignored.
* `drain`: null, or `reason` (a text) and `within_s` (seconds, or null): finish what has begun, take on
  nothing new, then report `drained`. It is never taken back.
"""

import math
import operator
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, cast

from supervisor.guard.advice import Advice
from supervisor.guard.pressure import Pressure

VERSION: Final = 1
LARGEST: Final = 4096  # bytes
LONGEST_TEXT: Final = 200  # characters
ADVICE: Final = frozenset({"cool-down", "ease-off"})

_MOST_ENTRIES: Final = 64  # of an object or an array: more would not fit anyway
_DEEPEST: Final = 3  # memory.missing.KEY
_LARGEST_WHOLE: Final = 2**63 - 1
_LARGEST_REAL: Final = 1e18
_WIDTH_AND_HEIGHT: Final = 2
_DROPPED_FIRST: Final = ("batches", "missing", "advice", "memory")


class Progress(NamedTuple):
    """Where a job stands; sizes and counts are of items."""

    job: str = ""
    state: str = "processing"
    position: int | None = None
    batch_size: int | None = None
    done: int = 0
    total: int | None = None
    throughput: float | None = None
    """Items a second."""
    eta_s: float | None = None


class Report(NamedTuple):
    """What a worker says of itself; see the head of this module."""

    seq: int
    ready: bool = False
    beat: bool = False
    drained: bool = False
    level: Pressure | None = None
    memory: dict[str, object] | None = None
    advice: Advice | None = None
    progress: Progress | None = None
    batches: Mapping[str, object] | None = None
    poisoned: str | None = None


class Drain(NamedTuple):
    """The supervisor's request to finish, and in how many seconds; None where it did not say."""

    reason: str = ""
    within_s: float | None = None


class Words(NamedTuple):
    """What the supervisor says; None is unknown."""

    host: Pressure | None = None
    gpu: Pressure | None = None
    advice: frozenset[str] = frozenset()
    drain: Drain | None = None


def encode(report: Report) -> bytes:
    """Write a report in at most 4096 bytes, whatever is in it; never raises."""
    said: dict[str, Any] = {"v": VERSION, **_plain(report._asdict(), 0)}
    said["advice"] = None if report.advice is None else _advice(report.advice)
    said["progress"] = None if report.progress is None else _plain(report.progress._asdict(), 1)
    datagram = _written(said)
    for name in _DROPPED_FIRST:
        if len(datagram) <= LARGEST:
            break
        if name == "missing":
            said["memory"] = _without_reasons(said["memory"])
        else:
            said[name] = None
        datagram = _written(said)
    return datagram


def decode(datagram: bytes) -> Words | None:
    """Read the supervisor's words, or None; what is of a wrong type is unknown. Never raises."""
    import json  # noqa: PLC0415 - 2 ms and 0.5 MiB, which a worker without a supervisor need not pay

    if len(datagram) > LARGEST:
        return None
    try:
        said = _object(json.loads(datagram))
    except (ValueError, RecursionError):
        return None
    if said is None or type(said.get("v")) is not int or said["v"] != VERSION:
        return None
    words = {word for word in _array(said.get("advice")) if isinstance(word, str)}
    return Words(_level(said.get("host")), _level(said.get("gpu")), ADVICE & words, _drain(said.get("drain")))


def text(value: object) -> str:
    """Return the first 200 characters of a text, half surrogate pairs replaced; of what is none, nothing."""
    return value[:LONGEST_TEXT].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def whole(value: object) -> int | None:
    """Return a whole number of 64 bits that is not negative, or None."""
    found = _number(value)
    return int(found) if found is not None and 0 <= found <= _LARGEST_WHOLE else None


def real(value: object) -> float | None:
    """Return a number from 0 to 10**18, or None."""
    found = _number(value)
    return float(found) if found is not None and 0 <= found <= _LARGEST_REAL else None


def _advice(advice: Advice) -> dict[str, object]:
    """Write advice as the wire has it, whatever the steps of the worker's manager hold."""
    size = [whole(side) for side in advice.input_size or ()]
    return {
        "clear_cache": bool(advice.clear_cache),
        "batch_size": whole(advice.batch_size),
        "input_size": None if len(size) != _WIDTH_AND_HEIGHT or None in size else size,
        "cpu_fallback": bool(advice.cpu_fallback),
        "stages_off": [text(str(stage)) for stage in advice.stages_off[:_MOST_ENTRIES]],
    }


def _plain(value: object, depth: int) -> Any:  # noqa: ANN401 - JSON
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text(value)
    if isinstance(value, (dict, list, tuple)) and depth >= _DEEPEST:
        return None
    if isinstance(value, dict):
        first = islice(cast("dict[object, object]", value).items(), _MOST_ENTRIES)
        return {text(name): _plain(part, depth + 1) for name, part in first if isinstance(name, str)}
    if isinstance(value, (list, tuple)):
        return [_plain(part, depth + 1) for part in cast("Sequence[object]", value)[:_MOST_ENTRIES]]
    return _number(value)


def _number(value: object) -> int | float | None:
    """Return a number that JSON and 64 bits can hold, also of numpy's or torch's scalars; else None."""
    try:
        found: int | float = operator.index(value)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - whatever the worker handed over
        try:
            found = float(value)  # type: ignore[arg-type]
        except Exception:  # noqa: BLE001 - the same; for a tensor, even that its device is lost
            return None
        return found if math.isfinite(found) else None
    return found if abs(found) <= _LARGEST_WHOLE else None


def _written(said: dict[str, Any]) -> bytes:
    import json  # noqa: PLC0415 - see decode

    return json.dumps(said, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _level(value: object) -> Pressure | None:
    return Pressure(value) if isinstance(value, str) and value in list(Pressure) else None


def _drain(value: object) -> Drain | None:
    said = _object(value)
    if said is None:
        return None
    within = said.get("within_s")
    within_s = real(within) if isinstance(within, (int, float)) and not isinstance(within, bool) else None
    return Drain(text(said.get("reason")), within_s)


def _object(value: object) -> dict[str, object] | None:
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def _array(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _without_reasons(memory: dict[str, object] | None) -> dict[str, object] | None:
    return memory and {name: figure for name, figure in memory.items() if name != "missing"}
