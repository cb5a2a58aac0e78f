import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.guard.advice import Advice
from supervisor.guard.pressure import Pressure
from supervisor.guard.report import STATES
from supervisor.guard.wire import Drain, Progress, Report, Words, decode, encode, real, text, whole

numbers = st.integers() | st.floats() | st.none() | st.booleans()
texts = st.text(st.characters(), max_size=20)  # half surrogate pairs too
words = texts | st.builds(str.__mul__, texts, st.integers(1, 300))
scalars: st.SearchStrategy[Any] = numbers | words
shallow = scalars | st.lists(scalars, max_size=3) | st.dictionaries(words, scalars, max_size=3)
anything = shallow | st.lists(shallow, max_size=3) | st.dictionaries(words, shallow, max_size=3)
figures = st.none() | st.dictionaries(words, anything, max_size=10)
advices = st.builds(Advice, batch_size=st.integers(), stages_off=st.lists(words, max_size=10).map(tuple))
progresses = st.builds(
    Progress,
    job=words,
    state=st.sampled_from(STATES),
    done=st.integers(),
    total=numbers,
    throughput=st.floats(),
)
reports = st.builds(
    Report,
    seq=st.integers(min_value=1, max_value=2**62),
    ready=st.booleans(),
    beat=st.booleans(),
    drained=st.booleans(),
    level=st.none() | st.sampled_from(Pressure),
    memory=figures,
    advice=st.none() | advices,
    progress=st.none() | progresses,
    batches=figures,
    poisoned=st.none() | words,
)


def no_constant(name: str) -> None:
    pytest.fail(f"{name} is no JSON")


def test_a_report_is_written_as_the_protocol_says() -> None:
    report = Report(
        17,
        ready=True,
        beat=True,
        level=Pressure.HIGH,
        memory={"oom_events": 2, "usage_percent": None, "missing": {"usage_percent": "cannot read cuda:0"}},
        advice=Advice(clear_cache=True, batch_size=1, input_size=(640, 640), stages_off=("upscale",)),
        progress=Progress("film-7", "processing", None, 6, 50, 200, 2.5, 60.0),
        batches={"success_rate": 0.98, "peak_memory_bytes": 2**33},
    )
    assert json.loads(encode(report)) == {
        "v": 1,
        "seq": 17,
        "ready": True,
        "beat": True,
        "drained": False,
        "level": "high",
        "memory": {
            "oom_events": 2,
            "usage_percent": None,
            "missing": {"usage_percent": "cannot read cuda:0"},
        },
        "advice": {
            "clear_cache": True,
            "batch_size": 1,
            "input_size": [640, 640],
            "cpu_fallback": False,
            "stages_off": ["upscale"],
        },
        "progress": {
            "job": "film-7",
            "state": "processing",
            "position": None,
            "batch_size": 6,
            "done": 50,
            "total": 200,
            "throughput": 2.5,
            "eta_s": 60.0,
        },
        "batches": {"success_rate": 0.98, "peak_memory_bytes": 8589934592},
        "poisoned": None,
    }


@given(reports)
def test_whatever_is_reported_is_json_of_4096_bytes_at_most_that_keeps_the_state(report: Report) -> None:
    datagram = encode(report)
    assert len(datagram) <= 4096
    said = json.loads(datagram, parse_constant=no_constant)
    assert datagram.startswith(b"{")
    assert said["v"] == 1
    assert (said["seq"], said["ready"], said["beat"], said["drained"]) == report[:4]
    assert said["level"] == (None if report.level is None else report.level.value)
    assert (said["progress"] is None) == (report.progress is None)
    if report.progress is not None:
        assert said["progress"]["state"] == report.progress.state
    assert (said["poisoned"] is None) == (report.poisoned is None)


def test_the_least_important_is_dropped_first() -> None:
    long: dict[str, object] = {f"key {number}": "é" * 200 for number in range(4)}  # some 1.7 kB
    memory: dict[str, object] = {"oom_events": 1, "missing": long}
    report = Report(1, level=Pressure.HIGH, memory=memory, batches=long)
    said = json.loads(encode(report))
    assert said["batches"] == long
    assert said["memory"] == memory

    full = Report(1, memory=memory, batches=long, advice=Advice(stages_off=("s" * 200,) * 4))
    said = json.loads(encode(full))
    assert said["batches"] is None
    assert said["memory"] == memory
    assert said["advice"]["stages_off"] == ["s" * 200] * 4

    full = full._replace(advice=Advice(stages_off=("s" * 200,) * 16))
    said = json.loads(encode(full))
    assert said["batches"] is None
    assert said["memory"] == {"oom_events": 1}
    assert len(said["advice"]["stages_off"]) == 16

    full = full._replace(advice=Advice(stages_off=("s" * 200,) * 30))
    said = json.loads(encode(full))
    assert said["advice"] is None
    assert said["memory"] == {"oom_events": 1}

    said = json.loads(encode(full._replace(memory={f"{n}": "m" * 200 for n in range(30)})))
    assert said["memory"] is None


def test_what_is_no_number_of_the_wire_is_null() -> None:
    batches = {"a": math.nan, "b": math.inf, "c": 2**70, "d": object(), "e": -1.5, "f": b"bytes", "g": {1, 2}}
    said = json.loads(encode(Report(1, batches=batches)), parse_constant=no_constant)
    assert said["batches"] == {"a": None, "b": None, "c": None, "d": None, "e": -1.5, "f": None, "g": None}


class Scalar:
    """Like a scalar of numpy's or torch's: neither an int nor a float."""

    def __init__(self, value: float) -> None:
        self._value = value

    def __float__(self) -> float:
        return self._value


class LostScalar:
    def __float__(self) -> float:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_a_scalar_of_a_framework_is_a_number_unless_its_device_is_lost() -> None:
    said = json.loads(encode(Report(1, batches={"a": Scalar(2.5), "b": LostScalar()})))
    assert said["batches"] == {"a": 2.5, "b": None}


@pytest.mark.parametrize(
    ("value", "as_whole", "as_real"),
    [
        (5, 5, 5.0),
        (2.5, 2, 2.5),
        (-1, None, None),
        (math.nan, None, None),
        (math.inf, None, None),
        (2**70, None, None),
        (1e19, None, None),
        (None, None, None),
        ("many", None, None),
        (0, 0, 0.0),
    ],
)
def test_counts_and_quantities_are_not_negative(
    value: object, as_whole: int | None, as_real: float | None
) -> None:
    assert whole(value) == as_whole
    assert real(value) == as_real


def test_a_text_is_cut_to_200_characters_and_has_no_half_pairs() -> None:
    assert text("é" * 201) == "é" * 200
    assert text("a\ud800b") == "a?b"
    assert text(5) == ""


def test_the_supervisors_words_are_read() -> None:
    datagram = (
        b'{"v":1,"host":"high","gpu":"critical","advice":["cool-down","ease-off"],'
        b'"drain":{"reason":"age: 3600 s","within_s":60.0}}'
    )
    assert decode(datagram) == Words(
        Pressure.HIGH, Pressure.CRITICAL, frozenset({"cool-down", "ease-off"}), Drain("age: 3600 s", 60.0)
    )
    assert decode(b'{"v":1}') == Words()


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"READY=1",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[1]",
        b'"v"',
        b"{}",
        b'{"v":2,"host":"high"}',
        b'{"v":true,"host":"high"}',
        b'{"v":"1","host":"high"}',
        b"[" * 4096,
        b'{"v":1,"host":' + b"9" * 4000 + b"}" + b" " * 200,
    ],
)
def test_what_is_no_message_of_this_version_is_ignored(garbage: bytes) -> None:
    assert decode(garbage) is None


WORDS: list[tuple[dict[str, Any], Words]] = [
    ({"host": "hot", "gpu": 3}, Words()),
    ({"host": ["high"], "gpu": "high"}, Words(gpu=Pressure.HIGH)),
    ({"advice": "cool-down"}, Words()),
    ({"advice": ["dance", 5, None, {}, [], "ease-off"]}, Words(advice=frozenset({"ease-off"}))),
    ({"drain": "now"}, Words()),
    ({"drain": {}}, Words(drain=Drain("", None))),
    ({"drain": {"reason": 5, "within_s": "soon"}}, Words(drain=Drain("", None))),
    ({"drain": {"reason": "r" * 300, "within_s": -1}}, Words(drain=Drain("r" * 200, None))),
    ({"drain": {"reason": "age", "within_s": True}}, Words(drain=Drain("age", None))),
    ({"unknown": 1}, Words()),
]


@pytest.mark.parametrize(("said", "words"), WORDS)
def test_what_is_of_a_wrong_type_or_unknown_is_unknown(said: dict[str, object], words: Words) -> None:
    assert decode(json.dumps({"v": 1, **said}).encode()) == words


@given(st.binary(max_size=5000) | anything.map(lambda said: json.dumps(said).encode()))
def test_no_datagram_is_an_error(datagram: bytes) -> None:
    assert isinstance(decode(datagram), Words | None)


@given(st.dictionaries(st.sampled_from(["host", "gpu", "advice", "drain"]), anything))
def test_no_word_is_an_error_and_only_too_many_are_ignored(said: dict[str, object]) -> None:
    datagram = json.dumps({"v": 1, **said}).encode()
    assert isinstance(decode(datagram), Words) == (len(datagram) <= 4096)
