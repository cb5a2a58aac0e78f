"""Reads `alerts.rules[].when`: comparisons joined by and, or, not and parentheses. Parsed, never evaluated.

either     = both {"or" both}
both       = negated {"and" negated}
negated    = "not" negated | "(" either ")" | comparison
comparison = READING [SIGN VALUE]        without SIGN only where the reading is true or false
"""

import re
from typing import Final, NoReturn, cast

from msgspec import Struct

from supervisor.config.fault import quoted
from supervisor.config.scalars import nearest
from supervisor.model.condition import (
    READINGS,
    Both,
    Comparison,
    Condition,
    Either,
    Flag,
    Not,
    Sign,
    Topic,
    Unit,
    leaves,
)
from supervisor.model.quantity import parse_size, parse_span

LONGEST: Final = 500  # characters of a condition
DEEPEST: Final = 20  # parentheses and nots within one another
_LARGEST: Final = 1e15
_LARGEST_SIZE: Final = 1 << 52  # 4 PiB: beyond it a float counts no single bytes
_TOKEN: Final = re.compile(
    r"(?P<sign>[<>]=?|==|!=)|(?P<paren>[()])|(?P<value>[0-9.][0-9.A-Za-z%°µμ]*)|(?P<word>[A-Za-z_][\w.-]*)",
    re.ASCII,
)
_NUMBER: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([A-Za-z%°]*)", re.ASCII)
_ORDER: Final = ("<", "<=", ">", ">=")
_MEANT: Final = {"=": "==", "&&": "and", "||": "or", "!": "not", "&": "and", "|": "or"}


class Token(Struct, frozen=True):
    """One word of a condition, and where it begins, from 1; the end has no text."""

    kind: str
    text: str
    at: int


class ConditionError(ValueError):
    """A condition cannot be read; the text says where and why."""


def parse_condition(text: str) -> Condition:
    """Read a condition. Raises ConditionError with a sentence for people."""
    if len(text) > LONGEST:
        raise ConditionError(f"has {len(text)} characters, and {LONGEST} is the most")
    if not text.strip():
        raise ConditionError('is empty: write a comparison such as "gpu.used > 95%"')
    condition = _Parser(_tokens(text)).whole()
    named = {leaf.reading.partition(".")[0] for leaf in leaves(condition)}
    if {"gpu", "worker"} <= named:
        raise ConditionError("speaks of a gpu and of a worker: a rule is judged for one of them")
    return condition


def _tokens(text: str) -> list[Token]:
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        match = _TOKEN.match(text, at)
        if match is None:
            sign = next((sign for sign in _MEANT if text.startswith(sign, at)), "")
            hint = f": write {_MEANT[sign]}" if sign else ""
            shown = quoted(sign) if sign else ascii(text[at])
            _refuse(at + 1, f"{shown} means nothing here{hint}")
        tokens.append(Token(match.lastgroup or "", match[0], at + 1))
        at = match.end()
    return [*tokens, Token("end", "", len(text) + 1)]


def _refuse(at: int, why: str) -> NoReturn:
    raise ConditionError(f"at character {at}: {why}")


class _Parser:
    """Goes once through the tokens."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def whole(self) -> Condition:
        condition = self._either()
        left = self._peek()
        if left.kind != "end":
            hint = "no parenthesis was opened" if left.text == ")" else "'and' or 'or' must come before it"
            _refuse(left.at, f"{quoted(left.text)} is one too many: {hint}")
        return condition

    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._peek()
        if token.kind != "end":
            self._next += 1
        return token

    def _took(self, word: str) -> bool:
        if self._peek().text != word:
            return False
        self._next += 1
        return True

    def _either(self) -> Condition:
        parts = [self._both()]
        while self._took("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _both(self) -> Condition:
        parts = [self._negated()]
        while self._took("and"):
            parts.append(self._negated())
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def _negated(self) -> Condition:
        self._depth += 1
        if self._depth > DEEPEST:
            _refuse(self._peek().at, f"more than {DEEPEST} parentheses and nots within one another")
        begun = self._peek()
        if self._took("not"):
            found: Condition = Not(self._negated())
        elif self._took("("):
            found = self._either()
            if not self._took(")"):
                _refuse(self._peek().at, f"the parenthesis of character {begun.at} is not closed")
        else:
            found = self._comparison()
        self._depth -= 1
        return found

    def _comparison(self) -> Comparison | Flag:
        name = self._take()
        topic = READINGS.get(name.text)
        if topic is None:
            what = (
                "a reading is missing" if name.kind == "end" else f"there is no reading {quoted(name.text)}"
            )
            _refuse(name.at, what + (nearest(name.text, READINGS) if name.text else ""))
        if topic.kind == "flag":
            if self._peek().kind == "sign":
                _refuse(self._peek().at, f"{name.text} is true or false: write it alone, or after 'not'")
            return Flag(name.text)
        sign = self._take()
        if sign.kind != "sign":
            _refuse(sign.at, f"{name.text} needs a sign: < <= == != >= >")
        if topic.kind == "word" and sign.text in _ORDER:
            _refuse(sign.at, f"{name.text} has no order: write == or !=")
        return Comparison(name.text, cast("Sign", sign.text), *self._value(name.text, topic))

    def _value(self, name: str, topic: Topic) -> tuple[float | str, Unit]:
        token = self._take()
        if token.kind not in {"value", "word"}:
            _refuse(token.at, f"{name} is compared with nothing: {_wanted(topic)}")
        text = token.text
        while topic.kind == "span" and self._peek().kind == "value":  # 1min 30s
            text = f"{text} {self._take().text}"
        try:
            return _read(text, topic)
        except ValueError as error:
            _refuse(token.at, str(error))


def _read(text: str, topic: Topic) -> tuple[float | str, Unit]:
    """Read a value of the topic's kind; raises ValueError."""
    if topic.words:
        if text not in topic.words:
            hint = nearest(text, topic.words) or f": write one of {', '.join(topic.words)}"
            raise ValueError(f"{quoted(text)} is not one of its words{hint}")
        return text, "word"
    if topic.kind == "span":
        return parse_span(text), "s"
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"{quoted(text)} is none of its values: {_wanted(topic)}")
    return _with_unit(text, float(match[1]), match[2], topic)


def _with_unit(text: str, number: float, unit: str, topic: Topic) -> tuple[float, Unit]:
    if number >= _LARGEST and (unit == "%" or topic.kind != "memory"):
        raise ValueError(f"{quoted(text)} is larger than anything that is measured")
    if unit == "%" and topic.kind in {"percent", "memory", "power"}:
        return number, "percent"
    if topic.kind == "memory" and (unit or number == 0):
        size = parse_size(text)
        if size > _LARGEST_SIZE:
            raise ValueError(f"{quoted(text)} is more than 4 PiB")
        return float(size), "bytes"
    if topic.kind == "power" and unit in {"", "W"}:
        return number, "w"
    if topic.kind == "celsius" and unit in {"", "C", "°C"}:
        return number, "celsius"
    if topic.kind == "number" and not unit:
        return number, "number"
    raise ValueError(f"{quoted(text)} is none of its values: {_wanted(topic)}")


def _wanted(topic: Topic) -> str:
    """Say what may be written, by example."""
    if topic.words:
        return f"write one of {', '.join(topic.words)}"
    return {
        "memory": f"write a size such as 2G, or a percentage of {topic.whole} such as 90%",
        "power": "write watts such as 300W, or a percentage of its limit such as 95%",
        "percent": "write a percentage such as 40%",
        "span": "write a time span such as 30min",
        "celsius": "write degrees such as 85C",
    }.get(topic.kind, "write a number such as 5")
