import asyncio
import sqlite3
from pathlib import Path

import pytest

from supervisor.daemon.history import HistoryError
from supervisor.daemon.history_schema import STEPS
from supervisor.model.action import Field, Notice
from supervisor.model.course import Course
from supervisor.model.incident import (
    Entry,
    GpuRow,
    HostRow,
    Incident,
    IncidentDetail,
    Sample,
    SampleRow,
    WorkerRow,
)
from support.histories import T0, history, notice, wait_for


def test_an_incident_is_told_with_its_timeline_its_readings_and_its_log(tmp_path: Path) -> None:
    with history(tmp_path / "history.db") as kept:
        host, gpu = HostRow(9, 1, 0.5), GpuRow("GPU-1", 7, 40.5, 70.0, 3.0)
        kept.sample(T0 - 3600, [WorkerRow("chat", 1)])
        kept.sample(T0 - 10, [host, gpu, WorkerRow("chat", 8, 2, None), WorkerRow("other", 5)])
        kept.tell(notice("i1"), T0 + 0.5)
        kept.attach("i1", ["last words", "and one more"])
        kept.tell(notice("i1", "worker ready", outcome="ready again after 4 s"), T0 + 4.5)
        assert kept.flush(5)
        detail = asyncio.run(kept.incident("i1"))
    fields = {"memory_bytes": 8_804_682_956}
    assert detail == IncidentDetail(
        incident=Incident(
            id="i1",
            worker="chat",
            gpu=None,
            cause="memory-cap",
            reason="8.2 GiB, cap 8 GiB",
            opened_wall_s=T0 + 0.5,
            closed_wall_s=T0 + 4.5,
            outcome="ready again after 4 s",
            fields=fields,
        ),
        timeline=(
            Entry(T0 + 0.5, "warning", "worker stopping", "8.2 GiB, cap 8 GiB", fields),
            Entry(T0 + 4.5, "warning", "worker ready", "8.2 GiB, cap 8 GiB", fields),
        ),
        samples=(
            Sample(T0 - 10, WorkerRow("chat", 8, 2, None)),
            Sample(T0 - 10, host),
            Sample(T0 - 10, gpu),
        ),
        log_tail=("last words", "and one more"),
    )


def test_incidents_come_newest_first_of_one_worker_and_since_a_time(tmp_path: Path) -> None:
    with history(tmp_path / "history.db") as kept:
        for number in range(4):
            kept.tell(notice(f"i{number}"), T0 + number)
        kept.tell(Notice("error", "gpu lost", "fell off the bus", gpu="GPU-1", incident="g"), T0 + 9)
        kept.tell(Notice("info", "worker ready", "not an incident", worker="chat"), T0 + 9)
        assert kept.flush(5)

        def found(worker: str | None, since_wall_s: float | None, limit: int) -> list[str]:
            return [one.id for one in asyncio.run(kept.incidents(worker, since_wall_s, limit))]

        assert found(None, None, 10) == ["g", "i3", "i2", "i1", "i0"]
        assert found("chat", None, 2) == ["i3", "i2"]
        assert found("chat", T0 + 2, 10) == ["i3", "i2"]
        assert found("unknown", None, 10) == []
        assert asyncio.run(kept.incident("unknown")) is None


def test_what_is_kept_outlives_the_daemon(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with history(path) as kept:
        assert kept.kept("memory") is None
        for number in range(50):
            kept.keep("memory", b"%d" % number)
        kept.tell(notice("i1"), T0)
    with history(path) as kept:
        assert kept.kept("memory") == b"49"
        assert [one.id for one in asyncio.run(kept.incidents(None, None, 9))] == ["i1"]
        assert kept.state == "ok"


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history.db"
    with history(path) as kept:
        kept.keep("memory", b"x")
        assert kept.flush(5)
        assert {entry.stat().st_mode & 0o777 for entry in path.parent.iterdir()} == {0o600}


def test_samples_closer_than_ten_seconds_are_left_out_and_a_clock_set_back_is_not(tmp_path: Path) -> None:
    with history(tmp_path / "history.db") as kept:
        for wall_s in (T0, T0 + 2, T0 + 9.9, T0 + 10, T0 + 12, T0 - 86400, T0 - 86398):
            kept.sample(wall_s, [WorkerRow("chat", int(wall_s - T0))])
        assert kept.flush(5)
        samples = asyncio.run(kept.samples("chat", 0.0, 100))
    assert [sample.row for sample in samples] == [
        WorkerRow("chat", -86400),
        WorkerRow("chat", 0),
        WorkerRow("chat", 10),
    ]


def test_samples_of_the_machine_are_those_of_host_and_gpus(tmp_path: Path) -> None:
    with history(tmp_path / "history.db") as kept:
        kept.sample(T0, [HostRow(9, 1, 0.5), GpuRow("GPU-1", None), WorkerRow("chat", 8)])
        assert kept.flush(5)
        samples = asyncio.run(kept.samples(None, T0, 100))
    assert [sample.row for sample in samples] == [HostRow(9, 1, 0.5), GpuRow("GPU-1", None)]


def test_the_course_of_everything_keeps_the_worst_of_each_slot(tmp_path: Path) -> None:
    at_s = T0 - T0 % 60
    with history(tmp_path / "history.db") as kept:
        for after_s, memory, available in ((0, 5, 90), (10, 8, 70), (20, None, 80), (60, 6, None)):
            rows: list[SampleRow] = [
                WorkerRow("chat", memory, 1, 3),
                HostRow(available),
                GpuRow("GPU-1", memory, 40.0, 9.0, 50.0),
            ]
            kept.sample(at_s + after_s, rows)
        assert kept.flush(5)
        courses = asyncio.run(kept.courses(at_s, 60))
        assert asyncio.run(kept.courses(at_s + 3600, 60)) == ()
    slots = (int(at_s), int(at_s) + 60)
    assert courses == (
        Course("gpu", "GPU-1", slots, (8, 6), utilization_percent=(50.0, 50.0)),
        Course("host", "", slots, (70, None)),
        Course("worker", "chat", slots, (8, 6), (3, 3)),
    )


def test_old_incidents_and_samples_go_and_so_do_samples_of_the_future(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    day_s = 86400.0
    with history(path) as kept:
        for age_s in (31 * day_s, 29 * day_s):
            kept.tell(notice(f"i{age_s / day_s:.0f}"), T0 - age_s)
        for age_s in (8 * day_s, 6 * day_s, -2 * day_s):
            kept.sample(T0 - age_s, [WorkerRow("chat", int(age_s / day_s))])
    with history(path, now=T0) as kept:
        kept.keep("memory", b"anything")
        assert kept.flush(5)
        wait_for(lambda: len(asyncio.run(kept.incidents(None, None, 9))) == 1)
        assert [one.id for one in asyncio.run(kept.incidents(None, None, 9))] == ["i29"]
        assert [s.row for s in asyncio.run(kept.samples("chat", 0, 9))] == [WorkerRow("chat", 6)]


def test_an_older_file_is_brought_to_the_newest_tables_with_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with sqlite3.connect(path) as old:
        old.executescript(STEPS[0])
        old.execute("PRAGMA user_version = 1")
        old.execute("INSERT INTO kept VALUES ('memory', x'0102')")
        old.execute(
            "INSERT INTO incidents (id, reason, opened_wall_s, fields) VALUES ('old', 'why', 5e8, '{}')"
        )
    old.close()
    warnings: list[str] = []
    with history(path, warnings, now=5e8) as kept:
        kept.sample(5e8, [WorkerRow("chat", 3)])
        assert kept.flush(5)
        assert kept.kept("memory") == b"\x01\x02"
        assert [one.id for one in asyncio.run(kept.incidents(None, None, 9))] == ["old"]
        assert len(asyncio.run(kept.samples("chat", 0, 9))) == 1
    with sqlite3.connect(path) as new:
        assert new.execute("PRAGMA user_version").fetchone() == (len(STEPS),)
    new.close()
    assert warnings == []


def test_a_file_of_a_newer_version_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    warnings: list[str] = []
    with history(path, warnings) as kept:
        kept.keep("memory", b"x")
        assert kept.state == "ok"
    assert [entry.name for entry in tmp_path.glob("*newer*Z")] == ["history.db.newer-20270115T080000Z"]
    assert len(warnings) == 1
    assert "version 99" in warnings[0]


def test_values_that_no_database_takes_are_written_all_the_same(tmp_path: Path) -> None:
    with history(tmp_path / "history.db") as kept:
        fields: dict[str, Field] = {"n": 1 << 80, "text": "\udcff", "nothing": None}
        kept.tell(Notice("info", "e\udcff", "r\udcff", worker="chat", incident="i", fields=fields), T0)
        kept.attach("i", ["\udcfe"])
        assert kept.flush(5)
        detail = asyncio.run(kept.incident("i"))
        assert kept.state == "ok"
    assert detail is not None
    assert detail.incident.reason == "r\\udcff"
    assert detail.incident.fields == {"n": "1.208926e+24", "text": "\\udcff", "nothing": None}
    assert detail.log_tail == ("\\udcfe",)


def test_a_damaged_answer_is_an_error_that_says_why(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with history(path) as kept:
        kept.tell(notice("i"), T0)
        assert kept.flush(5)
        with sqlite3.connect(path) as other:
            other.execute("DROP TABLE entries")
        other.close()
        with pytest.raises(HistoryError, match="cannot read the history: no such table: entries"):
            asyncio.run(kept.incident("i"))


def test_an_incident_never_grows_without_bound(tmp_path: Path) -> None:
    with history(tmp_path / "history.db") as kept:
        for number in range(700):
            kept.tell(notice("i"), T0 + number)
        kept.attach("i", [f"{number} {'x' * 5000}" for number in range(500)])
        assert kept.flush(5)
        detail = asyncio.run(kept.incident("i"))
    assert detail is not None
    assert len(detail.timeline) == 500
    assert [line.split()[0] for line in (detail.log_tail[0], detail.log_tail[-1])] == ["400", "499"]
    assert max(map(len, detail.log_tail)) == 2000


def test_the_size_is_bounded_and_what_is_newest_stays(tmp_path: Path) -> None:
    path, bound_bytes = tmp_path / "history.db", 2 << 20
    largest_bytes = 0
    with history(path, max_bytes=bound_bytes) as kept:
        kept.keep("memory", b"m" * 10_000)
        for moment in range(400):
            rows = [WorkerRow(f"w{number}", 1 << 40, 1 << 41, 1 << 42) for number in range(500)]
            kept.sample(T0 - 6000 + moment * 10, rows)
            kept.tell(notice(f"i{moment}", outcome="done"), T0 + moment)
            if moment % 20 == 19:
                assert kept.flush(20)
                largest_bytes = max(largest_bytes, sum(one.stat().st_size for one in tmp_path.iterdir()))
        assert asyncio.run(kept.samples("w7", 0, 9))[-1].wall_s == T0 - 6000 + 399 * 10
        assert [one.id for one in asyncio.run(kept.incidents(None, None, 1))] == ["i399"]
        assert len(asyncio.run(kept.incidents(None, None, 999))) == 400
        assert kept.dropped == 0
        assert kept.kept("memory") == b"m" * 10_000
    assert bound_bytes // 2 < largest_bytes <= bound_bytes


def test_when_there_are_no_samples_left_closed_incidents_go_before_open_ones(tmp_path: Path) -> None:
    with history(tmp_path / "history.db", max_bytes=512 << 10) as kept:
        kept.tell(notice("open"), T0)
        for number in range(1500):
            kept.tell(notice(f"i{number}", outcome="x" * 500), T0 + number)
            if number % 100 == 99:
                assert kept.flush(20)
        found = [one.id for one in asyncio.run(kept.incidents(None, None, 9999))]
        size_bytes = sum(one.stat().st_size for one in tmp_path.iterdir())
    assert found[0] == "i1499"
    assert found[-1] == "open"
    assert 100 < len(found) < 1000
    assert size_bytes <= 512 << 10


def test_readers_and_the_writer_do_not_disturb_each_other(tmp_path: Path) -> None:
    warnings: list[str] = []

    async def read_while_writing() -> list[int]:
        counts: list[int] = []
        for number in range(200):
            kept.tell(notice(f"i{number}"), T0 + number)
            kept.sample(T0 + 10 * number, [WorkerRow("chat", number)])
            both = await asyncio.gather(kept.incidents(None, None, 999), kept.samples("chat", 0, 999))
            counts.append(len(both[0]))
        return counts

    with history(tmp_path / "history.db", warnings) as kept:
        counts = asyncio.run(read_while_writing())
        assert kept.flush(5)
        assert len(asyncio.run(kept.incidents(None, None, 999))) == 200
    assert counts == sorted(counts)
    assert warnings == []
    assert kept.dropped == 0
