"""What is read over HTTP: the state, the history, the dashboard's files."""

import contextlib
import json

import msgspec
import pytest

from supervisor.model.action import Notice
from supervisor.model.report import MemoryReport
from supervisor.model.status import ReportedStatus
from support.control_desk import StoryDesk, worker
from support.web_face import WebFace


def test_the_status_is_the_daemons_document_with_how_old_it_is(face: WebFace, desk: StoryDesk) -> None:
    answer = face.get("/api/v1/status")

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    web = document.pop("web")
    assert document == json.loads(msgspec.json.encode(desk.now))
    assert web["daemon"] == "ok"
    assert web["stale_s"] <= 1.0
    assert web["read_at"].endswith("Z")


def test_workers_are_told_together_and_one_by_one(face: WebFace) -> None:
    assert [one["name"] for one in face.get("/api/v1/workers").json()["workers"]] == ["chat", "embed"]
    one = face.get("/api/v1/workers/chat").json()
    assert (one["name"], one["phase"], one["memory_bytes"]) == ("chat", "ready", 2437393940)


def test_what_is_not_there_is_told_as_a_problem(face: WebFace) -> None:
    answer = face.get("/api/v1/workers/nobody")

    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {"status": 404, "title": "Not Found", "detail": "no worker is called 'nobody'"}
    assert face.get("/api/v1/nothing").json()["detail"] == "there is nothing at this address"
    assert face.get("/api/v1/history/none-1").json()["detail"] == "no incident is called 'none-1'"
    assert face.get("/static/../settings.py").status == 404
    assert face.get("/static/%2e%2e/settings.py").status == 404


def test_a_method_that_an_address_does_not_know_is_told_which_it_knows(face: WebFace) -> None:
    answer = face.ask("PUT", "/api/v1/session")

    assert answer.status == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST", "DELETE"}


def test_the_history_is_asked_as_the_query_says(face: WebFace, desk: StoryDesk) -> None:
    found = face.get("/api/v1/history?worker=chat&since=1763690000&limit=5").json()

    assert [one["id"] for one in found["incidents"]] == ["chat-1"]
    assert desk.queries == [("chat", 1763690000.0, 5)]


def test_an_incident_comes_with_its_samples_its_timeline_and_its_log(face: WebFace) -> None:
    found = face.get("/api/v1/history/chat-1").json()

    assert [one["event"] for one in found["timeline"]] == ["cap breached", "worker ready"]
    assert [one["row"]["type"] for one in found["samples"]] == ["worker", "host", "gpu"]
    assert found["log_tail"] == ["loading model", "bad \x1b[31mescape"]


def test_equal_questions_within_some_seconds_cost_the_daemon_one(face: WebFace, desk: StoryDesk) -> None:
    for _ in range(20):
        assert face.get("/api/v1/history?since=1h").status == 200

    assert len(desk.queries) <= 3


def test_a_hundred_readers_cost_the_daemon_one_question_a_second(face: WebFace, desk: StoryDesk) -> None:
    before = desk.shown
    for _ in range(100):
        assert face.get("/api/v1/status").status == 200

    assert desk.shown - before <= 5


def test_the_first_hundred_readers_are_all_answered(face: WebFace) -> None:
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(face.raw()) for _ in range(100)]
        for sock in socks:
            sock.sendall(b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert {sock.recv(4096)[:15] for sock in socks} == {b"HTTP/1.1 200 OK"}


def test_courses_are_of_the_last_hour_in_minutes(face: WebFace) -> None:
    (found,) = face.get("/api/v1/courses").json()["courses"]

    assert found["name"] == "chat"
    assert found["at_s"][1] - found["at_s"][0] == 60


def test_slots_are_as_large_as_a_thousand_of_them_need(face: WebFace) -> None:
    (found,) = face.get("/api/v1/courses?since=7d&slot=1").json()["courses"]

    assert found["at_s"][1] - found["at_s"][0] == 605


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/api/v1/history?limit=0", "limit must be a whole number from 1 to 1000"),
        ("/api/v1/history?limit=1e3", "limit must be a whole number from 1 to 1000"),
        ("/api/v1/history?limit=%F0%9F%98%80", "limit must be a whole number from 1 to 1000"),
        ("/api/v1/history?since=yesterday", "since must be Unix seconds, or a span back from now such as 1h"),
        ("/api/v1/history?since=nan", "since must be Unix seconds, or a span back from now such as 1h"),
        (
            "/api/v1/history?since=" + "9" * 300,
            "since must be Unix seconds, or a span back from now such as 1h",
        ),
        ("/api/v1/history?worker=", "worker must be 1 to 200 letters, digits and dashes"),
        ("/api/v1/history?worker=a&worker=b", "worker is given more than once"),
        ("/api/v1/events?after=-1", "after must be a whole number from 0 to 9007199254740992"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused_with_its_reason(face: WebFace, path: str, why: str) -> None:
    answer = face.get(path)

    assert (answer.status, answer.json()["detail"]) == (400, why)


def test_events_are_told_with_their_epoch_and_number(face: WebFace, desk: StoryDesk) -> None:
    desk.recent.notice(Notice("info", "worker ready", "answered 200", worker="chat"), 5.0)
    desk.recent.notice(Notice("warning", "cap breached", "8.1GiB", worker="chat"), 6.0)

    told = face.get("/api/v1/events?after=1&epoch=epoch-1").json()

    assert (told["epoch"], told["last"]) == ("epoch-1", 2)
    assert [one["event"] for one in told["events"]] == ["cap breached"]


def test_alerts_of_a_daemon_that_knows_of_none_are_none(face: WebFace) -> None:
    assert face.get("/api/v1/alerts").json() == {"alerts": []}


def test_stats_sum_the_gpus_and_show_each_worker_that_reports(face: WebFace, desk: StoryDesk) -> None:
    memory = MemoryReport(allocated_mb=100.0, oom_events=2, recoveries=1, degradation_level=3)
    reported = ReportedStatus(
        "high", memory, None, None, None, draining=False, drained=False, report_age_s=0.5
    )
    desk.now = msgspec.structs.replace(
        desk.now, workers=(worker("chat", reported=reported), worker("embed", rung=1, oom_events=4))
    )

    stats = face.get("/stats").json()

    assert stats["memory"] == {
        "cuda_available": True,
        "current_pressure": "normal",
        "oom_events": 6,
        "recoveries": 1,
        "degradation_level": 3,
        "allocated_mb": 6144.0,
        "allocated_gb": 6.0,
        "reserved_mb": 6144.0,
        "reserved_gb": 6.0,
        "total_mb": 142336.0,
        "total_gb": 139.0,
        "usage_percent": 4.32,
        "allocated_percent": 4.32,
        "missing": {},
    }
    assert list(stats["workers"]) == ["chat"]
    assert stats["workers"]["chat"]["memory"]["allocated_mb"] == 100.0


def test_stats_of_a_gpu_that_cannot_be_read_are_null_with_the_reason(face: WebFace, desk: StoryDesk) -> None:
    gpu = msgspec.structs.replace(
        desk.now.gpus[0], memory_used_bytes=None, missing={"memory_used_bytes": "the driver hangs"}
    )
    desk.now = msgspec.structs.replace(desk.now, gpus=(gpu,))

    memory = face.get("/stats").json()["memory"]

    assert memory["allocated_mb"] is None
    assert memory["total_gb"] == 139.0
    assert memory["missing"]["usage_percent"] == "GPU 0: the driver hangs"


def test_metrics_are_of_the_same_state(face: WebFace) -> None:
    answer = face.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert b"\ngpu_supervisor_up 1.0\n" in answer.body
    assert b'gpu_supervisor_worker_phase{phase="ready",worker="chat"} 1.0' in answer.body


def test_health_is_of_the_process_and_readiness_of_the_daemon(face: WebFace, desk: StoryDesk) -> None:
    assert face.get("/healthz").json() == {"alive": True}
    assert face.get("/readyz").json() == {"ready": True}
    desk.trouble = RuntimeError("no")
    face.until(lambda: face.get("/api/v1/status").json()["web"]["daemon"] != "ok", "the trouble shows")
    assert face.get("/healthz").status == 200


def test_every_answer_forbids_what_a_page_does_not_need(face: WebFace) -> None:
    for path in ("/", "/api/v1/status", "/nothing"):
        headers = face.get(path).headers
        assert headers["content-security-policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
            "connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
