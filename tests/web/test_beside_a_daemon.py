"""The web face in front of a real daemon: what is told, who asked, and that its troubles are its own."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.daemon import Daemon
from support.web_face import WebFace, web_face

SECRET = "hunter2-planted-secret-4711"
WORKERS = "workers: {one: {command: [sleep, '1000'], ready: {after: 100ms}}}\n"


@pytest.fixture
def shown(daemon: Daemon, tmp_path: Path) -> Iterator[WebFace]:
    """Return a web face in front of a daemon with one worker."""
    daemon.configure(WORKERS)
    daemon.start()
    daemon.until_phase("one", "ready")
    with web_face(tmp_path, tmp_path / "run" / "control") as face:
        yield face


def test_a_restart_over_http_is_done_and_the_history_says_for_whom(daemon: Daemon, shown: WebFace) -> None:
    before = daemon.worker("one")["pid"]

    assert shown.ask("POST", "/api/v1/workers/one/restart", {"reason": "it drifts"}).status == 202
    daemon.until_worker("one", lambda one: one["phase"] == "ready" and one["pid"] != before, "a new life")

    daemon.until(lambda: bool(shown.get("/api/v1/history").json()["incidents"]), "the history has it")
    incident = shown.get("/api/v1/history").json()["incidents"][0]
    assert (incident["cause"], incident["reason"]) == ("operator", "it drifts, for web client 127.0.0.1")
    detail = shown.get(f"/api/v1/history/{incident['id']}").json()
    assert "worker stopping" in [entry["event"] for entry in detail["timeline"]]
    asked = next(one for one in daemon.events() if one["event"] == "restart asked for")
    assert asked["by"].endswith(", for web client 127.0.0.1")


def test_a_listener_hears_of_what_the_daemon_does(daemon: Daemon, shown: WebFace) -> None:
    with shown.listen() as listener:
        listener.until("snapshot")
        assert shown.ask("POST", "/api/v1/workers/one/stop").status == 202
        said: list[str] = []
        while "worker stopped" not in said:
            said.append(listener.until("event")["event"]["event"])
        assert "stop asked for" in said
    daemon.until_phase("one", "stopped")


def test_a_daemon_that_is_started_again_is_found_again(daemon: Daemon, shown: WebFace) -> None:
    with shown.listen() as listener:
        first = listener.until("snapshot")["status"]["supervisor"]["pid"]
        daemon.kill()
        away = listener.until("heartbeat")
        while away["daemon"] == "ok":
            away = listener.until("heartbeat")
        assert away["daemon"] == "away: the daemon is not running"
        stale = shown.get("/api/v1/status").json()["web"]
        assert stale["daemon"] == "away: the daemon is not running"
        assert stale["stale_s"] > 0
        assert shown.ask("POST", "/api/v1/workers/one/stop").status == 503

        daemon.start()
        told = listener.until("changes")
        while told["status"].get("supervisor", {}).get("pid") in {None, first}:
            told = listener.until("changes")
        assert told["status"]["web"]["daemon"] == "ok"
        listener.until("event")


def test_a_daemon_that_hangs_is_told_as_away_and_delays_nobody(daemon: Daemon, shown: WebFace) -> None:
    assert daemon.process is not None
    assert shown.get("/api/v1/status").status == 200
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        shown.until(lambda: shown.get("/api/v1/status").json()["web"]["daemon"] != "ok", "it shows", 30)
        web = shown.get("/api/v1/status").json()["web"]
        assert web["daemon"] == "away: the daemon did not answer within 5 s"
        shown.until(lambda: shown.get("/stats").status == 503, "it is not told as of now", 30)
        for path in ("/api/v1/workers", "/api/v1/workers/one", "/api/v1/alerts"):
            assert shown.get(path).status == 503
        assert "its last answer is" in shown.get("/stats").json()["detail"]
        assert shown.get("/api/v1/status").status == 200
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    shown.until(lambda: shown.get("/api/v1/status").json()["web"]["daemon"] == "ok", "it is back", 30)


def _turns(daemon: Daemon) -> int:
    turns: int = daemon.status()["supervisor"]["turns"]
    return turns


def _started_with_web(daemon: Daemon, port: int) -> None:
    daemon.configure(f"web: {{listen: '127.0.0.1:{port}'}}\n{WORKERS}")
    daemon.start("--web")
    daemon.until_phase("one", "ready")
    daemon.until(lambda: _fetch(port) is not None, "the web face answers")


def _fetch(port: int) -> bytes | None:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            sock.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return sock.recv(1 << 16) or None
    except OSError:
        return None


def _web_pid(daemon: Daemon) -> int:
    assert daemon.process is not None
    for child in Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text().split():
        if b"supervisor.web" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    return 0


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        found: int = sock.getsockname()[1]
        return found


def test_run_with_web_serves_and_ends_with_the_daemon(daemon: Daemon, port: int) -> None:
    _started_with_web(daemon, port)
    pid = _web_pid(daemon)
    mine = int(Path(f"/proc/{pid}/oom_score_adj").read_text())
    assert daemon.process is not None
    assert mine > int(Path(f"/proc/{daemon.process.pid}/oom_score_adj").read_text())
    assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, daemon.process.pid)

    assert daemon.stop() == 0
    assert not Path(f"/proc/{pid}").exists()
    assert _fetch(port) is None


def test_a_killed_web_face_is_started_again_and_the_worker_never_knows(daemon: Daemon, port: int) -> None:
    _started_with_web(daemon, port)
    worker, pid = daemon.worker("one")["pid"], _web_pid(daemon)

    os.kill(pid, signal.SIGKILL)

    daemon.until(lambda: _web_pid(daemon) not in {0, pid} and _fetch(port) is not None, "it serves again")
    assert daemon.worker("one")["pid"] == worker
    assert [one["reason"] for one in daemon.events() if one["event"] == "web face ended"] == [
        "it ended: Killed; again in 1 s"
    ]


@pytest.mark.parametrize("trouble", ["hung", "busy"])
def test_a_web_face_that_hangs_or_burns_leaves_the_daemon_turning(
    daemon: Daemon, port: int, trouble: str
) -> None:
    _started_with_web(daemon, port)
    pid, before = _web_pid(daemon), _turns(daemon)
    if trouble == "hung":
        os.kill(pid, signal.SIGSTOP)
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            daemon.until(lambda: _turns(daemon) >= before + 3, "it turns")
    else:
        deadline_s = time.monotonic() + 4
        while time.monotonic() < deadline_s:
            assert _fetch(port) is not None
        assert _turns(daemon) > before
    worker = daemon.worker("one")["pid"]
    assert daemon.run("restart", "one", "--now").returncode == 0
    assert daemon.worker("one")["pid"] != worker
    assert daemon.stop() == 0
    assert not Path(f"/proc/{pid}").exists()


def test_a_web_face_without_its_daemon_ends(daemon: Daemon, port: int) -> None:
    _started_with_web(daemon, port)
    pid = _web_pid(daemon)

    daemon.kill()

    deadline_s = time.monotonic() + 15
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline_s, "it lives on"
        time.sleep(0.05)


def test_settings_that_are_refused_stop_the_web_face_alone_until_they_change(
    daemon: Daemon, port: int
) -> None:
    daemon.configure(f"web: {{listen: '0.0.0.0:{port}'}}\n{WORKERS}")
    daemon.start("--web")
    daemon.until(lambda: "web face ended" in daemon.log(), "it was refused")
    assert "its settings cannot be used; it is started again when they change" in daemon.log()
    daemon.until_phase("one", "ready")

    daemon.configure(f"web: {{listen: '127.0.0.1:{port}'}}\n{WORKERS}")
    assert daemon.run("reload").returncode == 0
    daemon.until(lambda: _fetch(port) is not None, "it serves")


def test_a_secret_of_a_worker_is_at_no_address(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "secret.env"
    file.write_text(f"API_KEY={SECRET}\n")
    file.chmod(0o600)
    worker = f"{{command: [sleep, '1000'], ready: {{after: 100ms}}, environment_file: {file}}}"
    daemon.configure(f"workers: {{one: {worker}}}\n")
    daemon.start()
    pid = daemon.until_phase("one", "ready")["pid"]
    assert SECRET.encode() in Path(f"/proc/{pid}/environ").read_bytes()  # the worker has it
    with web_face(tmp_path, tmp_path / "run" / "control") as face, face.listen() as listener:
        heard: list[Any] = [listener.until("snapshot")]
        assert face.ask("POST", "/api/v1/workers/one/restart", {"reason": "x"}).status == 202
        daemon.until_worker("one", lambda one: one["phase"] == "ready" and one["pid"] != pid, "a new life")
        paths = _addresses(face)
        assert len(paths) > 12
        answers = [face.get(path) for path in paths]
        incidents = face.get("/api/v1/history").json()["incidents"]
        answers += [face.get(f"/api/v1/history/{incident['id']}") for incident in incidents]
        heard += [listener.message() for _ in range(3)]
    assert {answer.status for answer in answers} <= {200, 404}
    assert all(SECRET.encode() not in answer.body for answer in answers)
    assert SECRET not in repr(heard)
    assert SECRET not in face.log() + daemon.log()
    kept = [path for path in (*tmp_path.glob("state/**/*"), *tmp_path.glob("run/**/*")) if path.is_file()]
    assert any(path.name == "history.db" for path in kept)
    assert [path for path in kept if SECRET.encode() in path.read_bytes()] == []


def _addresses(face: WebFace) -> list[str]:
    """Return every address that can be read, from the description."""
    paths = face.get("/openapi.json").json()["paths"]
    readable = [path for path, methods in paths.items() if "get" in methods]
    return [path.replace("{name}", "one").replace("{path}", "dashboard.js") for path in readable]
