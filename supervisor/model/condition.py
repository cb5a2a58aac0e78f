"""When an alert is true: a small tree of comparisons, and the readings that it may speak of."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final, Literal

from msgspec import Struct

from supervisor.model.phase import GpuState, Phase, Pressure
from supervisor.model.quantity import format_size, format_span, parse_size, parse_span

Subject = Literal["gpu", "worker", "host", "supervisor"]
Kind = Literal["memory", "power", "percent", "span", "celsius", "number", "word", "level", "flag"]
Sign = Literal["<", "<=", "==", "!=", ">=", ">"]
Unit = Literal["bytes", "percent", "s", "celsius", "w", "number", "word"]


class Topic(Struct, frozen=True):
    """One reading: what kind of value it has, what it means, and the words that it can be."""

    kind: Kind
    meaning: str
    whole: str = ""  # what a percentage is of
    words: tuple[str, ...] = ()  # of a level in their order


class Comparison(Struct, frozen=True, tag="comparison"):
    """A reading held against a value, in `unit`; a percentage is 95.0 for 95%."""

    reading: str
    sign: Sign
    value: float | str
    unit: Unit


class Flag(Struct, frozen=True, tag="flag"):
    """A reading that is true or false by itself."""

    reading: str


class Not(Struct, frozen=True, tag="not"):
    """True where its part is false."""

    part: "Condition"


class Both(Struct, frozen=True, tag="and"):
    """True where all its parts are."""

    parts: "tuple[Condition, ...]"


class Either(Struct, frozen=True, tag="or"):
    """True where one of its parts is."""

    parts: "tuple[Condition, ...]"


Condition = Comparison | Flag | Not | Both | Either

_LEVELS: Final = tuple(level.value for level in Pressure)

READINGS: Final[Mapping[str, Topic]] = {
    "gpu.used": Topic("memory", "used memory of the GPU", "its memory"),
    "gpu.free": Topic("memory", "its memory that is not used", "its memory"),
    "gpu.temperature": Topic("celsius", "its temperature"),
    "gpu.power": Topic("power", "what it draws", "its enforced power limit"),
    "gpu.utilization": Topic("percent", "how much of the time it computes"),
    "gpu.pressure": Topic("level", "how hard its memory presses, by `gpu.pressure`", words=_LEVELS),
    "gpu.state": Topic(
        "word", "whether it can be asked and trusted", words=tuple(one.value for one in GpuState)
    ),
    "gpu.quarantined": Topic("flag", "nothing is started or restarted on it"),
    "gpu.hot": Topic("flag", "above `gpu.hot_above`, until 3 degrees below"),
    "gpu.throttled": Topic("flag", "its clocks are held down, by more than its power limit"),
    "gpu.xids": Topic("number", "Xids of it in the kernel's log, in this boot"),
    "gpu.read_age": Topic("span", "how old its readings are"),
    "worker.memory": Topic(
        "memory", "RAM of its process tree: anonymous, shared and swapped", "`memory.cap`"
    ),
    "worker.memory_file": Topic("memory", "mapped files of its process tree", "`memory.cap`"),
    "worker.vram": Topic("memory", "its GPU memory, over all its GPUs", "`vram.cap`"),
    "worker.forecast": Topic("span", "how long until its leak reaches the cap, where it leaks"),
    "worker.phase": Topic("word", "where it is in its life", words=tuple(one.value for one in Phase)),
    "worker.held": Topic("flag", "it is not started again until an operator says so"),
    "worker.rung": Topic("number", "how far down its ladder it is; 0: not degraded"),
    "worker.restarts": Topic("number", "restarts in all"),
    "worker.failures": Topic("number", "failures within the last `restart.within`"),
    "worker.oom_events": Topic("number", "out-of-memory deaths since its ladder was begun"),
    "worker.age": Topic("span", "how long ago it was launched"),
    "worker.phase_age": Topic("span", "how long it has been in its phase"),
    "worker.report_age": Topic("span", "how long ago its guard was heard, where it uses one"),
    "worker.reported": Topic(
        "level", "the pressure that its guard reports, where it uses one", words=_LEVELS
    ),
    "worker.processes": Topic("number", "live processes of its tree"),
    "host.available": Topic("memory", "MemAvailable", "the machine's memory"),
    "host.used": Topic("memory", "memory that is not available", "the machine's memory"),
    "host.swap_used": Topic("memory", "used swap", "the machine's swap"),
    "host.psi": Topic("percent", "stalls on memory, PSI full avg10"),
    "host.pressure": Topic("level", "how hard the machine's memory presses", words=_LEVELS),
    "supervisor.gpus": Topic("number", "GPUs that it sees"),
    "supervisor.ready": Topic("number", "workers that are ready"),
    "supervisor.held": Topic("number", "workers that are held"),
}


def leaves(condition: Condition) -> Iterator[Comparison | Flag]:
    """Yield what is compared, from left to right."""
    match condition:
        case Comparison() | Flag():
            yield condition
        case Not():
            yield from leaves(condition.part)
        case Both() | Either():
            for part in condition.parts:
                yield from leaves(part)


def subject_of(condition: Condition) -> Subject:
    """Return what a condition is judged for; one of a GPU or of a worker may speak of the machine too."""
    named = {leaf.reading.partition(".")[0] for leaf in leaves(condition)}
    for subject in ("gpu", "worker", "host"):
        if subject in named:
            return subject
    return "supervisor"


def written(condition: Condition) -> str:
    """Write a condition as the configuration does: it reads back as the same."""
    match condition:
        case Comparison():
            return f"{condition.reading} {condition.sign} {value_text(condition.value, condition.unit)}"
        case Flag():
            return condition.reading
        case Not():
            return f"not {_part(condition.part, (Both, Either))}"
        case Both():
            return " and ".join(_part(part, (Both, Either)) for part in condition.parts)
        case Either():
            return " or ".join(_part(part, (Either,)) for part in condition.parts)


def _part(condition: Condition, looser: tuple[type[Struct], ...]) -> str:
    text = written(condition)
    return f"({text})" if isinstance(condition, looser) else text


def value_text(value: float | str, unit: Unit) -> str:
    """Write a value in full, so that it reads back as the same: 2GiB, 95%, 1min 30s, 85C."""
    if isinstance(value, str):
        return value
    if unit == "bytes":
        size = format_size(int(value))
        return size if parse_size(size) == int(value) else f"{int(value)}B"
    if unit == "s":
        span = format_span(value)
        return span if parse_span(span) == value else f"{_digits(value)}s"
    return _digits(value) + {"percent": "%", "celsius": "C", "w": "W"}.get(unit, "")


def _digits(value: float) -> str:
    """Write a number exactly and without an exponent."""
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
