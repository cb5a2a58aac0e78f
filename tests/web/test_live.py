"""The WebSocket: a snapshot, then what changes; heartbeats; slow readers and chatty ones are dropped."""

import re
from pathlib import Path

import msgspec
import pytest

from supervisor.model.action import Notice
from supervisor.model.news import Reported
from supervisor.model.report import Progress, Report
from support.control_desk import StoryDesk, everything, serving, worker
from support.web_face import RefusedListenerError, WebFace, web_face


def test_a_listener_hears_everything_once_and_then_what_changes(face: WebFace, desk: StoryDesk) -> None:
    with face.listen() as listener:
        first = listener.message()
        assert first is not None
        assert first["type"] == "snapshot"
        assert [one["name"] for one in first["status"]["workers"]] == ["chat", "embed"]
        assert first["status"]["web"]["daemon"] == "ok"

        grown = msgspec.structs.replace(desk.now.workers[0], memory_bytes=5)
        desk.now = msgspec.structs.replace(desk.now, uptime_s=193.0, workers=(grown, desk.now.workers[1]))
        told = listener.until("changes")

    assert told["seq"] == first["seq"] + 1
    assert [(one["name"], one["memory_bytes"]) for one in told["workers"]] == [("chat", 5)]
    assert told["status"]["uptime_s"] == 193.0
    assert set(told["status"]) == {"uptime_s", "web"}
    assert "gone" not in told
    assert "order" not in told
    assert "gpus" not in told


def test_a_worker_that_came_and_one_that_went_are_told(face: WebFace, desk: StoryDesk) -> None:
    with face.listen() as listener:
        listener.until("snapshot")
        desk.now = msgspec.structs.replace(desk.now, workers=(worker("new"), desk.now.workers[0]))
        told = listener.until("changes")

    assert told["gone"] == ["embed"]
    assert told["order"] == ["new", "chat"]
    assert [one["name"] for one in told["workers"]] == ["new"]


def test_notices_and_steps_of_jobs_are_told_as_they_come(face: WebFace, desk: StoryDesk) -> None:
    with face.listen() as listener:
        listener.until("snapshot")
        desk.recent.notice(Notice("warning", "cap breached", "8.1GiB", worker="chat"), 5.0)
        told = listener.until("event")["event"]
        assert (told["event"], told["worker"], told["wall_s"]) == ("cap breached", "chat", 5.0)

        for state in ("queued", "processing", "completed"):
            report = Report(v=1, progress=Progress(job="night", state=state, position=2, eta_s=9.0))
            desk.recent.hear([Reported("chat", "chat-1", report, 1.0)], 6.0)
            step = listener.until("job")
            assert (step["worker"], step["at"]) == ("chat", 6.0)
            assert (step["job"]["state"], step["job"]["position"], step["job"]["eta_s"]) == (state, 2, 9.0)


def test_what_was_told_before_somebody_listened_is_not_told_again(face: WebFace, desk: StoryDesk) -> None:
    desk.recent.notice(Notice("info", "old", "old"), 1.0)
    with face.listen() as listener:
        listener.until("snapshot")
        desk.recent.notice(Notice("info", "new", "new"), 2.0)
        assert listener.until("event")["event"]["event"] == "new"


def test_a_heartbeat_tells_that_nothing_has_changed(face: WebFace) -> None:
    with face.listen() as listener:
        listener.until("snapshot")
        beat = listener.until("heartbeat")

    assert beat["daemon"] == "ok"
    assert beat["stale_s"] < 5
    assert beat["at"].endswith("Z")


def test_a_daemon_that_went_and_came_back_is_told_to_who_listens(face: WebFace, desk: StoryDesk) -> None:
    with face.listen() as listener:
        listener.until("snapshot")
        desk.trouble = OSError("the disk is gone")
        away = listener.until("heartbeat")
        while away["daemon"] == "ok":
            away = listener.until("heartbeat")
        assert away["daemon"] == "away: OSError: the disk is gone"
        status = face.get("/api/v1/status").json()
        assert status["web"]["daemon"].startswith("away: ")
        assert [one["name"] for one in status["workers"]] == ["chat", "embed"]

        desk.trouble = None
        back = listener.until("heartbeat")
        while back["daemon"] != "ok":
            back = listener.until("heartbeat")


@pytest.mark.parametrize("payload", ["x", b"x" * 10, "x" * 5000])
def test_a_listener_that_speaks_is_closed(face: WebFace, payload: str | bytes) -> None:
    with face.listen() as listener:
        listener.until("snapshot")
        if isinstance(payload, str):
            listener.send_text(payload)
        else:
            listener.send_bytes(payload)
        while listener.message() is not None:
            pass
        assert listener.closed is not None
        assert listener.closed.code in {1003, 1009}


def test_a_ping_is_answered_and_no_reason_to_close(face: WebFace) -> None:
    with face.listen() as listener:
        listener.until("snapshot")
        listener.ping()
        assert listener.until("heartbeat")


def test_a_burst_of_news_drops_nobody_who_reads(face: WebFace, desk: StoryDesk) -> None:
    with face.listen() as listener:
        listener.until("snapshot")
        for number in range(400):
            desk.recent.notice(Notice("info", f"n{number}", "z"), 1.0)
        assert [listener.until("event")["event"]["event"] for _ in range(400)] == [
            f"n{n}" for n in range(400)
        ]


@pytest.mark.slow
def test_a_listener_that_does_not_read_is_dropped_with_the_reason_and_costs_no_other(
    face: WebFace, desk: StoryDesk
) -> None:
    with face.listen() as slow, face.listen() as quick:
        slow.until("snapshot")
        quick.until("snapshot")
        before = face.rss_bytes()
        for second in range(8):  # 3 MiB each, and the buffers of both sockets hold some
            for number in range(100):
                desk.recent.notice(Notice("info", f"n{second}-{number}", "z" * 30_000), 1.0)
            while quick.until("event")["event"]["event"] != f"n{second}-99":
                pass
        while (told := slow.message()) is not None:
            assert told["type"] in {"changes", "event", "heartbeat"}
        assert slow.closed is not None
        assert slow.closed.code == 1013
        assert re.fullmatch(r"too slow: [1-9][0-9]* messages dropped", slow.closed.reason or "")
        assert face.rss_bytes() - before < 60 << 20


def test_nobody_listens_where_the_daemon_never_answered(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("workers: {}\n")
    with web_face(tmp_path, tmp_path / "control", "--config", str(config)) as face:
        with pytest.raises(RefusedListenerError, match="HTTP 503"):
            face.listen()
        answer = face.get("/api/v1/status")
        assert (answer.status, answer.json()["detail"]) == (503, "the daemon is not running")
        assert face.get("/readyz").status == 503
        assert face.get("/healthz").status == 200
        assert b"gpu_supervisor_up 0.0" in face.get("/metrics").body
        with serving(tmp_path / "control", StoryDesk(everything(worker("chat")))):
            face.until(lambda: face.get("/api/v1/status").status == 200, "the daemon came")
