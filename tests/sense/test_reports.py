"""A worker's datagrams: what counts, and what hostile ones come to."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.model.news import Reported
from supervisor.model.phase import Pressure
from supervisor.model.report import AdviceReport, BatchesReport, MemoryReport, Progress, Report
from supervisor.sense.reports import Unread, is_quiet, merge, read_report

FULL: dict[str, Any] = {
    "v": 1,
    "seq": 17,
    "ready": True,
    "beat": True,
    "drained": False,
    "level": "critical",
    "memory": {
        "cuda_available": True,
        "current_pressure": "critical",
        "oom_events": 2,
        "recoveries": 2,
        "degradation_level": 1,
        "allocated_mb": 20480.5,
        "allocated_gb": 20.0,
        "reserved_mb": 22528,
        "reserved_gb": 22.0,
        "total_mb": 24576,
        "total_gb": 24.0,
        "usage_percent": None,
        "allocated_percent": 83.33,
        "missing": {"usage_percent": "NVML is\x1b[31m away", "nonsense": "x"},
    },
    "advice": {
        "clear_cache": True,
        "batch_size": 1,
        "input_size": [640, 640],
        "cpu_fallback": False,
        "stages_off": ["up\nscale"],
    },
    "progress": {"job": "a\x07b", "state": "queued", "position": 3, "done": 0, "total": 9, "eta_s": 1.5},
    "batches": {"success_rate": 0.5, "throughput": 12, "recoveries": 4, "peak_memory_bytes": 1 << 33},
    "poisoned": None,
    "of a later day": {"x": [1, 2]},
}


def said(**fields: Any) -> bytes:  # noqa: ANN401 - whatever JSON holds
    return json.dumps({"v": 1} | fields).encode()


def test_a_whole_report_is_read_and_its_texts_are_made_printable() -> None:
    assert read_report(json.dumps(FULL).encode()) == Report(
        v=1,
        ready=True,
        beat=True,
        level=Pressure.CRITICAL,
        memory=MemoryReport(
            cuda_available=True,
            current_pressure=Pressure.CRITICAL,
            oom_events=2,
            recoveries=2,
            degradation_level=1,
            allocated_mb=20480.5,
            allocated_gb=20.0,
            reserved_mb=22528.0,
            reserved_gb=22.0,
            total_mb=24576.0,
            total_gb=24.0,
            allocated_percent=83.33,
            missing={"usage_percent": "NVML is[31m away"},
        ),
        advice=AdviceReport(clear_cache=True, batch_size=1, input_size=(640, 640), stages_off=("upscale",)),
        progress=Progress(job="ab", state="queued", position=3, total=9, eta_s=1.5),
        batches=BatchesReport(success_rate=0.5, throughput=12.0, recoveries=4, peak_memory_bytes=8589934592),
    )


def test_what_is_absent_is_null() -> None:
    assert read_report(b'{"v":1}') == Report(v=1)


def test_texts_are_cut() -> None:
    report = read_report(said(poisoned="x" * 3000, progress={"job": "y" * 500}))
    assert isinstance(report, Report)
    assert report.poisoned == "x" * 200
    assert report.progress == Progress(job="y" * 200)


@pytest.mark.parametrize(
    ("datagram", "why"),
    [
        (b'{"v":2,"level":{"at":3}}', "it speaks version 2 of the protocol, and this supervisor version 1"),
        (b'{"v":2}', "it speaks version 2 of the protocol, and this supervisor version 1"),
        (b'{"v":-7}', "it speaks version -7 of the protocol, and this supervisor version 1"),
        (b"{}", "Object missing required field `v`"),
        (b'{"v":1,"x":"' + b"x" * 4096 + b'"}', "it has more than 4096 bytes"),
        (said(level="dire"), "Invalid enum value 'dire' - at `$.level`"),
        (said(ready=1), "Expected `bool`, got `int` - at `$.ready`"),
        (said(memory={"oom_events": -1}), "Expected `int` >= 0 - at `$.memory.oom_events`"),
        (said(advice={"input_size": [1]}), "Expected `array` of length 2 - at `$.advice.input_size`"),
        (said(progress={"state": "done"}), "Invalid enum value 'done' - at `$.progress.state`"),
    ],
)
def test_what_is_no_report_is_refused_in_words(datagram: bytes, why: str) -> None:
    assert read_report(datagram) == Unread(why)


@pytest.mark.parametrize(
    "datagram",
    [
        b"{",
        b'{"v":1}x',
        b'{"v":true}',
        b'{"v":1.5}',
        b'{"v":"1"}',
        b'{"v":123456789012345678901234567890}',
        b'{"v":1,"level":NaN}',
        b'{"v":1,"batches":{"throughput":NaN}}',
        b'{"v":1,"batches":{"throughput":Infinity}}',
        b'{"v":1,"batches":{"throughput":1e999}}',
        b'{"v":1,"batches":{"throughput":1e30}}',
        b'{"v":1,"memory":{"oom_events":9223372036854775808}}',
        b'{"v":1,"memory":{"oom_events":1.5}}',
        b'{"v":1,"poisoned":"\xff"}',
        b'{"v":1,"poisoned":"\\ud800"}',
        b'{"v":1,"x":' + b"[" * 2000 + b"]" * 2000 + b"}",
        b'{"v":1,"x":' + b'{"a":' * 700 + b"1" + b"}" * 700 + b"}",
        b'{"v":1,"x":' + b"[" * 4000,
        b'{"v":1,"memory":' + b"[" * 4000,
        b"{\x00}",
    ],
)
def test_hostile_datagrams_are_refused_or_harmless(datagram: bytes) -> None:
    read = read_report(datagram)
    assert isinstance(read, Unread) or read == Report(v=1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
KEYS = st.sampled_from(
    [*FULL, *FULL["memory"], *FULL["advice"], *FULL["progress"], *FULL["batches"]]
) | st.text(max_size=5)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=5000).map(lambda noise: b"{" + noise))
def test_noise_never_raises(noise: bytes) -> None:
    assert isinstance(read_report(noise), Report | Unread)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(KEYS, JSON | st.dictionaries(KEYS, JSON, max_size=6), max_size=10),
    st.sampled_from([1, 2]),
)
def test_whatever_is_read_can_be_kept_and_printed(said: dict[str, Any], version: int) -> None:
    report = read_report(json.dumps(said | {"v": version}).encode())
    if isinstance(report, Unread):
        assert report.why
        assert report.why.isprintable()
        return
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
    texts = [report.poisoned or "", report.progress.job if report.progress else ""]
    assert all(text.isprintable() and len(text) <= 200 for text in texts)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 4096), st.integers(0, 255), st.integers(0, 4096))
def test_a_report_that_was_damaged_on_its_way_never_raises(at: int, byte: int, cut: int) -> None:
    whole = bytearray(json.dumps(FULL).encode())
    whole[at % len(whole)] = byte
    assert isinstance(read_report(bytes(whole[: cut % len(whole) + 1])), Report | Unread)


def test_two_reports_come_to_the_newer_state_and_all_that_was_said_once() -> None:
    first = Reported("w", "r", Report(v=1, ready=True, level=Pressure.HIGH, poisoned="gone"), 1.0, 1.0)
    second = Reported("w", "r", Report(v=1, level=Pressure.EXTREME), 2.0, quiet=True)
    whole = Report(v=1, ready=True, level=Pressure.EXTREME, poisoned="gone")
    assert merge(first, second) == Reported("w", "r", whole, 2.0, 1.0, quiet=False)
    third = Reported("w", "r", Report(v=1, beat=True), 3.0, 3.0, quiet=True)
    assert merge(second, third) == third


def test_a_report_is_quiet_where_nothing_that_is_acted_on_has_changed() -> None:
    former = Report(v=1, ready=True, memory=MemoryReport(usage_percent=50.0))
    assert is_quiet(former, Report(v=1, ready=True, beat=True, memory=MemoryReport(usage_percent=60.0)))
    assert is_quiet(former, Report(v=1, ready=True, progress=Progress(job="a", done=5)))
    assert not is_quiet(None, former)
    assert not is_quiet(former, Report(v=1))
    assert not is_quiet(former, Report(v=1, ready=True, level=Pressure.HIGH))
    assert not is_quiet(former, Report(v=1, ready=True, drained=True))
    assert not is_quiet(former, Report(v=1, ready=True, memory=MemoryReport(oom_events=1)))
    assert not is_quiet(former, Report(v=1, ready=True, poisoned="x"))
