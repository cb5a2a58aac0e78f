import io
import json
import os
import pty
import re
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.daemon.log_text import text_of
from supervisor.daemon.logs import Kind, NoticeLog, choose_kind, configure, healthy_line, wants_colour
from supervisor.model.action import Field, Notice
from supervisor.model.phase import Cause
from supervisor.model.status import WorkerStatus

GIB = 1 << 30
STOPPING = Notice(
    level="warning",
    event="worker stopping",
    reason='8.2 GiB, cap 8 GiB, "thrice"',
    worker="chat",
    gpu="GPU-1",
    cause=Cause.MEMORY_CAP,
    incident="chat-17",
    fields={"memory_bytes": 8804682956, "memory_cap_bytes": 8 * GIB, "backoff_s": 0.5, "event": "x"},
)


def worker(**changes: object) -> WorkerStatus:
    known: dict[str, object] = {
        "name": "chat",
        "phase": "ready",
        "pid": 17650,
        "unit": None,
        "age_s": 74.0,
        "max_age_s": 3600.0,
        "restart_in_s": 3526.0,
        "memory_bytes": 2437393941,
        "memory_file_bytes": 0,
        "memory_cap_bytes": 8 * GIB,
        "vram_bytes": 5476083302,
        "vram_cap_bytes": 6 * GIB,
        "vram_enforcement": "poll",
        "gpus": (),
        "restarts": 0,
        "last_restart": None,
        "rung": 0,
        "settings": {},
        "oom_events": 0,
        "forecast_s": None,
        "held": None,
    }
    return WorkerStatus(**{**known, **changes})  # type: ignore[arg-type]


@contextmanager
def log_to_file(path: Path, kind: Kind, **options: object) -> Generator[NoticeLog]:
    with path.open("a") as stream:
        log = configure(stream, kind, **options)  # type: ignore[arg-type]
        try:
            yield log
        finally:
            log.close(5)


def said(notice: Notice) -> str:
    return text_of(notice.event, {"worker": notice.worker, **notice.fields})


def test_the_healthy_line_is_that_of_the_interface() -> None:
    assert said(healthy_line(worker())) == (
        "worker healthy worker=chat pid=17650 age=74s/3600s memory=2.27GiB/8GiB vram=5.1GiB/6GiB "
        "restart_in=3526s"
    )


def test_the_healthy_line_leaves_out_what_has_no_limit_and_says_what_is_unknown() -> None:
    bare = worker(
        max_age_s=None,
        restart_in_s=None,
        memory_cap_bytes=None,
        memory_bytes=None,
        vram_bytes=None,
        vram_cap_bytes=None,
    )
    assert said(healthy_line(bare)) == "worker healthy worker=chat pid=17650 age=74s memory=unknown"
    assert "vram=unknown/6GiB" in said(healthy_line(worker(vram_bytes=None)))


def test_a_line_of_json_has_its_quantities_with_units(tmp_path: Path) -> None:
    with log_to_file(tmp_path / "log", "json") as log:
        log(healthy_line(worker()))
        log(STOPPING)
    first, second = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", first.pop("timestamp"))
    assert second.pop("timestamp")
    assert list(first.items()) == [
        ("level", "info"),
        ("event", "worker healthy"),
        ("worker", "chat"),
        ("pid", 17650),
        ("age_s", 74.0),
        ("max_age_s", 3600.0),
        ("memory_bytes", 2437393941),
        ("memory_cap_bytes", 8 * GIB),
        ("vram_bytes", 5476083302),
        ("vram_cap_bytes", 6 * GIB),
        ("restart_in_s", 3526.0),
    ]
    assert second == {
        "level": "warning",
        "event": "worker stopping",
        "worker": "chat",
        "gpu": "GPU-1",
        "cause": "memory-cap",
        "reason": '8.2 GiB, cap 8 GiB, "thrice"',
        "incident": "chat-17",
        "memory_bytes": 8804682956,
        "memory_cap_bytes": 8 * GIB,
        "backoff_s": 0.5,
        "field_event": "x",
    }


def test_a_line_for_people_is_logfmt(tmp_path: Path) -> None:
    with log_to_file(tmp_path / "log", "console") as log:
        log(STOPPING)
        log.logger.info("asked", by="uid 1000, pid 4711", now=True)
        log.logger.debug("not at this level")
    first, second = (tmp_path / "log").read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", first[:21])
    assert first[21:] == (
        r"warning worker stopping worker=chat gpu=GPU-1 cause=memory-cap "
        r'reason="8.2 GiB, cap 8 GiB, \"thrice\"" '
        "incident=chat-17 memory=8.2GiB/8GiB backoff=0.5s field_event=x"
    )
    assert second[21:] == 'info asked by="uid 1000, pid 4711" now=true'


def test_colour_is_for_terminals_that_want_it(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        with os.fdopen(theirs, "w") as terminal:
            assert choose_kind(terminal, {}) == "console"
            assert wants_colour(terminal, {"TERM": "xterm"})
            assert not wants_colour(terminal, {"TERM": "xterm", "NO_COLOR": "1"})
            assert not wants_colour(terminal, {"TERM": "dumb"})
            log = configure(terminal, "console", colour=True)
            log(STOPPING)
            log.close(5)
            assert b"Z \x1b[33mwarning\x1b[0m worker stopping worker=chat" in os.read(ours, 4096)
    finally:
        os.close(ours)
    with (tmp_path / "log").open("w") as file:
        assert choose_kind(file, {}) == "json"
        assert not wants_colour(file, {})


def test_the_journal_is_chosen_where_it_reads_our_stream(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        seen = os.fstat(file.fileno())
        assert choose_kind(file, {"JOURNAL_STREAM": f"{seen.st_dev}:{seen.st_ino}"}) == "journal"
        assert choose_kind(file, {"JOURNAL_STREAM": f"{seen.st_dev}:{seen.st_ino + 1}"}) == "json"
        assert choose_kind(file, {"JOURNAL_STREAM": "nonsense"}) == "json"
    assert choose_kind(io.StringIO(), {}) == "json"


def parse_entry(entry: bytes) -> dict[str, str]:
    """Read an entry as journald does."""
    fields: dict[str, str] = {}
    while entry:
        line, _, rest = entry.partition(b"\n")
        if b"=" in line:
            key, _, value = line.partition(b"=")
            entry = rest
        else:
            size = int.from_bytes(rest[:8], "little")
            key, value, entry = line, rest[8 : 8 + size], rest[8 + size + 1 :]
            assert rest[8 + size : 8 + size + 1] == b"\n"
        fields[key.decode()] = value.decode()
    return fields


def test_the_journal_gets_its_own_fields(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "socket"))
        journal.settimeout(5)
        with log_to_file(tmp_path / "log", "journal", journal=tmp_path / "socket") as log:
            log(STOPPING)
            first = parse_entry(journal.recv(1 << 20))
            log(
                Notice(
                    "error",
                    "worker held",
                    "two\nlines",
                    worker="chat",
                    fields={"9 odd-Näme": 1, "none": None},
                )
            )
            second = parse_entry(journal.recv(1 << 20))
            log(Notice("info", "large", "x" * 100_000, fields={f"f{n}": "y" * 100_000 for n in range(10)}))
            third = parse_entry(journal.recv(1 << 20))
    assert first == {
        "MESSAGE": r"worker stopping worker=chat gpu=GPU-1 cause=memory-cap "
        r'reason="8.2 GiB, cap 8 GiB, \"thrice\"" '
        "incident=chat-17 memory=8.2GiB/8GiB backoff=0.5s field_event=x",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "gpu-supervisor",
        "EVENT": "worker stopping",
        "WORKER": "chat",
        "GPU": "GPU-1",
        "CAUSE": "memory-cap",
        "REASON": '8.2 GiB, cap 8 GiB, "thrice"',
        "INCIDENT": "chat-17",
        "MEMORY_BYTES": "8804682956",
        "MEMORY_CAP_BYTES": "8589934592",
        "BACKOFF_S": "0.5",
        "FIELD_EVENT": "x",
    }
    assert second["REASON"] == "two\nlines"
    assert second["PRIORITY"] == "3"
    assert second["ODD_N_ME"] == "1"
    assert "NONE" not in second
    assert third["F9"] == "y" * 8192
    assert (tmp_path / "log").read_text() == ""


def test_without_a_journal_the_stream_gets_the_line_with_its_priority(tmp_path: Path) -> None:
    with log_to_file(tmp_path / "log", "journal", journal=tmp_path / "none") as log:
        log(Notice("error", "gpu lost", "", gpu="GPU-1"))
    assert (tmp_path / "log").read_text() == "<3>gpu lost gpu=GPU-1\n"


def test_a_reader_that_stops_reading_holds_nobody_up_and_the_loss_is_told() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, os.fdopen(reader, "rb") as lines:
        log = configure(stream, "json")
        began_s = time.monotonic()
        for number in range(5000):
            log(Notice("info", "line", "x" * 100, fields={"number": number}))
        told_s = time.monotonic() - began_s
        assert not log.flush(0.05)
        assert log.dropped > 2000
        assert told_s < 20  # it would have been for ever
        told = [json.loads(lines.readline())]
        while told[-1].get("number") != 4999:
            told.append(json.loads(lines.readline()))
        log.close(5)
    losses = [line["count"] for line in told if line["event"] == "log lines lost"]
    assert sum(losses) == log.dropped
    assert len(told) - len(losses) + sum(losses) == 5000


def test_closing_with_a_reader_that_never_reads_ends_in_time_and_writes_nothing_later() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as lines, os.fdopen(writer, "w") as stream:
        log = configure(stream, "json")
        for _ in range(2000):
            log(Notice("info", "line", "x" * 1000))
        began_s = time.monotonic()
        log.close(0.1)
        assert time.monotonic() - began_s < 5
        os.set_blocking(lines.fileno(), False)
        received = b""
        while not log.flush(0.01):
            received += lines.read() or b""
        received += lines.read() or b""
        assert received.count(b'"event":"line"') + log.dropped == 2000


def test_a_stream_that_fails_costs_the_line_alone() -> None:
    with Path("/dev/full").open("w") as stream:
        log = configure(stream, "json")
        log(STOPPING)
        log.close(5)
        assert log.dropped >= 1


VALUES: st.SearchStrategy[Field] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters())
)
NAMES = st.one_of(
    st.text(st.characters()), st.sampled_from(["self", "event", "level", "a_bytes", "b_s", "max_b_s"])
)


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters()), st.text(st.characters()), st.dictionaries(NAMES, VALUES, max_size=4))
def test_nothing_that_is_said_breaks_a_line(event: str, reason: str, fields: dict[str, Field]) -> None:
    for kind in ("json", "console", "journal"):
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as lines, os.fdopen(writer, "w") as stream:
            log = configure(stream, kind, journal=Path("/nonexistent"))
            log(Notice("info", event, reason, worker="w", fields=fields))
            log(Notice("info", "\ud800", "\ud800", fields={"\ud800_bytes": "\udfff"}))
            log.close(5)
            assert log.dropped == 0
            stream.close()
            written = lines.read().decode()
        assert written.count("\n") == 2
        assert written.endswith("\n")
        if kind != "json":
            assert "\x1b" not in written
        else:
            assert json.loads(written.split("\n")[0])["worker"] == "w"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"wait_s": 2.5}, "e wait=2.5s"),
        ({"wait_s": 12.6}, "e wait=13s"),
        ({"age_s": 5, "max_age_s": None}, "e age=5s/unknown"),
        ({"max_age_s": 60}, "e max_age=60s"),
        ({"ok": True, "n": 3, "share": 0.123456789}, "e ok=true n=3 share=0.123457"),
        ({"empty": ""}, "e empty="),
        ({"two words": "a b"}, 'e two_words="a b"'),
        ({"line": "a\nb"}, "e line=a\\nb"),
    ],
)
def test_fields_are_written_with_their_units(fields: dict[str, Field], text: str) -> None:
    assert text_of("e", fields) == text
