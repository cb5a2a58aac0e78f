"""Whether a condition holds of a subject: true, false, or None where it cannot be known."""

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Final

from supervisor.decide.alert_readings import NOTHING, READ, WHOLE, Nothing, Value, View
from supervisor.model.condition import (
    READINGS,
    Both,
    Comparison,
    Condition,
    Either,
    Flag,
    Not,
    Unit,
    leaves,
    written,
)
from supervisor.model.quantity import format_size, format_span
from supervisor.model.reading import Missing

Verdict = bool | None
Judge = Callable[[View], Verdict]
_NUMBERS: Final = (int, float)  # as a tuple: a union takes three times as long to ask
_SIGNS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}


@functools.lru_cache(
    maxsize=256
)  # a thousand workers are judged by each: a walk of the tree takes thrice as long
def judge_of(condition: Condition) -> Judge:
    """Return what judges by this condition.

    A missing reading makes a comparison unknown (None), and `and`, `or`, `not` go on with that as Kleene's
    logic does: false and unknown is false, true or unknown is true. What does not apply to a subject, as the
    age of a worker that is stopped, makes every comparison false.
    """
    match condition:
        case Comparison():
            return _comparison(condition)
        case Flag():
            return _flag(READ[condition.reading])
        case Not():
            return _not(judge_of(condition.part))
        case Both():
            return _joined(tuple(judge_of(part) for part in condition.parts), decides=False)
        case Either():
            return _joined(tuple(judge_of(part) for part in condition.parts), decides=True)


def _comparison(one: Comparison) -> Judge:
    holds = _SIGNS[one.sign]
    value = one.value
    if isinstance(value, str):
        words = READINGS[one.reading].words
        read, limit = READ[one.reading], words.index(value)

        def of_word(view: View) -> Verdict:
            found = read(view)
            if isinstance(found, str):
                return holds(words.index(found), limit)
            return None if isinstance(found, Missing) else False

        return of_word
    measure, least = _measure(one), value

    def of_number(view: View) -> Verdict:
        found = measure(view)
        if isinstance(found, _NUMBERS):
            return holds(found, least)
        return None if isinstance(found, Missing) else False

    return of_number


def _measure(one: Comparison) -> Callable[[View], Value]:
    """Return what reads a number in the unit of the comparison."""
    read, whole_of = READ[one.reading], WHOLE.get(one.reading)
    if one.unit != "percent" or whole_of is None:
        return read

    def share(view: View) -> Value:
        found = read(view)
        if not isinstance(found, _NUMBERS):
            return found
        whole = whole_of(view)
        if not isinstance(whole, _NUMBERS):
            return whole
        return found / whole * 100 if whole else NOTHING

    return share


def _flag(read: Callable[[View], Value]) -> Judge:
    def judged(view: View) -> Verdict:
        found = read(view)
        return None if isinstance(found, Missing) else found is True

    return judged


def _not(judge: Judge) -> Judge:
    def judged(view: View) -> Verdict:
        verdict = judge(view)
        return None if verdict is None else not verdict

    return judged


def _joined(judges: tuple[Judge, ...], *, decides: bool) -> Judge:
    """Return `or` where one true part decides, `and` where one false part does."""

    def judged(view: View) -> Verdict:
        unknown = False
        for judge in judges:
            verdict = judge(view)
            if verdict is decides:
                return decides
            unknown = unknown or verdict is None
        return None if unknown else not decides

    return judged


def measured(condition: Condition, view: View) -> tuple[Comparison, float | None] | None:
    """Return the first comparison with a number, and what was read for it."""
    for leaf in leaves(condition):
        if isinstance(leaf, Comparison) and not isinstance(leaf.value, str):
            found = _measure(leaf)(view)
            return leaf, round(found, 3) if isinstance(found, int | float) else None
    return None


def in_words(condition: Condition, view: View) -> str:
    """Say what was read for a condition, and the condition: `gpu.used 97.2% (gpu.used > 95%)`."""
    read: dict[str, str] = {}
    for leaf in leaves(condition):
        if leaf.reading not in read:
            read[leaf.reading] = _said(leaf, view)
    return f"{', '.join(f'{name} {value}' for name, value in read.items())} ({written(condition)})"


def _said(leaf: Comparison | Flag, view: View) -> str:
    found = READ[leaf.reading](view) if isinstance(leaf, Flag) else _measure(leaf)(view)
    if isinstance(found, Missing):
        return f"unknown ({found.why})"
    if isinstance(found, Nothing):
        return "none"
    if isinstance(found, bool):
        return "yes" if found else "no"
    return (
        found
        if isinstance(found, str)
        else _number(found, leaf.unit if isinstance(leaf, Comparison) else "number")
    )


def _number(value: float, unit: Unit) -> str:
    if unit == "bytes":
        return format_size(int(value))
    if unit == "s":
        return format_span(round(value, 1))
    return f"{round(value, 1):g}" + {"percent": "%", "celsius": "C", "w": "W"}.get(unit, "")
