"""Who may do what: Host, Origin, the token and its sessions, how often, and who is told to have asked."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from support.control_desk import StoryDesk
from support.web_face import RefusedListenerError, WebFace, web_face

TOKEN = "0123456789abcdef-the-token"


@pytest.fixture
def locked(tmp_path: Path, control: Path, desk: StoryDesk) -> Iterator[WebFace]:
    """Return a web face with a token."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    desk.web_plan = msgspec.structs.replace(desk.web_plan, token_file=str(file), hosts=("gpu.example",))
    with web_face(tmp_path, control) as face:
        yield face


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8095",
        "10.0.0.1",
        "localhost.evil.example",
        "",
        "a b",
        "evil.example@localhost",
        "localhost/evil.example",
        "localhost#evil.example",
        "localhost\\evil.example",
    ],
)
def test_a_foreign_host_name_is_refused(face: WebFace, host: str) -> None:
    answer = face.get("/api/v1/status", Host=host)

    assert answer.status in {400, 403}
    assert b"workers" not in answer.body


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "[::1]:8095", "127.0.0.5:80", "localhost."]
)
def test_names_of_this_machine_are_served(face: WebFace, host: str) -> None:
    assert face.get("/api/v1/status", Host=host).status == 200


def test_two_host_headers_are_refused(face: WebFace) -> None:
    with face.raw() as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert sock.recv(4096).startswith((b"HTTP/1.1 400", b"HTTP/1.1 403"))


def test_a_body_whose_end_is_told_in_two_ways_is_refused(face: WebFace, desk: StoryDesk) -> None:
    head = f"POST /api/v1/workers/chat/stop HTTP/1.1\r\nHost: 127.0.0.1:{face.port}\r\n"
    with face.raw() as sock:
        sock.sendall(head.encode() + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        with sock.makefile("rb") as answer:
            lines = answer.read().lower()
    assert lines.startswith(b"http/1.1 400")
    assert b"connection: close" in lines
    assert desk.asked == []


def test_a_wish_is_taken_and_handed_on_with_who_asked(face: WebFace, desk: StoryDesk) -> None:
    answer = face.ask("POST", "/api/v1/workers/chat/restart", {"reason": "it is slow", "now": True})

    assert (answer.status, answer.json()) == (202, {"taken": True})
    (asked,) = desk.asked
    assert (asked.wish, asked.workers, asked.now) == ("restart", ("chat",), True)
    assert asked.reason == "it is slow, for web client 127.0.0.1"
    assert re.fullmatch(r"uid \d+, pid \d+, for web client 127\.0\.0\.1", asked.by)


def test_a_wish_needs_no_body(face: WebFace, desk: StoryDesk) -> None:
    for wish in ("start", "stop", "restart", "reset"):
        assert face.ask("POST", f"/api/v1/workers/embed/{wish}").status == 202
    assert [asked.wish for asked in desk.asked] == ["start", "stop", "restart", "reset"]


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/api/v1/workers/nobody/stop", {}, {}, 404),
        ("/api/v1/workers/chat/explode", {}, {}, 404),
        ("/api/v1/workers/chat/stop", b"{", {}, 400),
        ("/api/v1/workers/chat/stop", b"[" * 16000, {}, 400),
        ("/api/v1/workers/chat/stop", {"reason": 5}, {}, 400),
        ("/api/v1/workers/chat/stop", {"why": "x"}, {}, 400),
        ("/api/v1/workers/chat/stop", {"reason": "x" * 501}, {}, 400),
        ("/api/v1/workers/chat/stop", {}, {"Content-Type": "text/plain"}, 415),
        ("/api/v1/workers/chat/stop", b"now=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ("/api/v1/workers/chat/stop", b" " * 20000, {}, 413),
    ],
)
def test_a_wish_that_is_wrong_does_nothing(  # noqa: PLR0913, PLR0917 - a table of requests
    face: WebFace, desk: StoryDesk, path: str, body: object, headers: dict[str, str], status: int
) -> None:
    answer = face.ask("POST", path, body, headers)

    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert desk.asked == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://[::1"},
        {"Origin": "http://a]b"},
        {"Origin": "file://"},
        {"Origin": "https://localhost.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_another_origin_do_nothing(face: WebFace, desk: StoryDesk, headers: dict[str, str]) -> None:
    assert face.ask("POST", "/api/v1/workers/chat/stop", {}, headers).status == 403
    with pytest.raises(RefusedListenerError, match="HTTP 403"):
        face.listen(headers)
    assert desk.asked == []


def test_the_dashboards_own_origin_may(face: WebFace, desk: StoryDesk) -> None:
    origin = {"Origin": f"http://127.0.0.1:{face.port}", "Sec-Fetch-Site": "same-origin"}

    assert face.ask("POST", "/api/v1/workers/chat/stop", {}, origin).status == 202
    with face.listen(origin) as listener:
        assert listener.until("snapshot")
    assert len(desk.asked) == 1


def test_a_name_that_is_configured_is_served_behind_a_proxy(locked: WebFace) -> None:
    told = {"Authorization": f"Bearer {TOKEN}", "Host": "gpu.example", "Origin": "https://gpu.example"}

    assert locked.ask("POST", "/api/v1/workers/chat/stop", {}, told).status == 202
    assert locked.get("/", Host="other.example").status == 403


def test_actions_that_are_switched_off_are_refused(tmp_path: Path, control: Path, desk: StoryDesk) -> None:
    desk.web_plan = msgspec.structs.replace(desk.web_plan, allow_actions=False)
    with web_face(tmp_path, control) as face:
        answer = face.ask("POST", "/api/v1/workers/chat/stop", {})
        assert (answer.status, answer.json()["detail"]) == (
            403,
            "actions are switched off: web.allow_actions is false",
        )
        assert face.get("/api/v1/session").json()["allow_actions"] is False
    assert desk.asked == []


def test_too_many_actions_are_put_off(face: WebFace, desk: StoryDesk) -> None:
    answers = [face.ask("POST", "/api/v1/workers/chat/start") for _ in range(30)]

    refused = [answer for answer in answers if answer.status == 429]
    assert answers[0].status == 202
    assert refused
    assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)
    assert len(desk.asked) == 30 - len(refused)


@pytest.mark.parametrize(
    "path",
    [
        *("/api/v1/status", "/api/v1/workers", "/api/v1/workers/chat", "/api/v1/history", "/api/v1/samples"),
        *("/api/v1/courses", "/api/v1/alerts", "/api/v1/events", "/stats", "/openapi.json", "/nothing"),
        "/metrics",
    ],
)
def test_without_the_token_nothing_is_told(locked: WebFace, path: str) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer "},
    ):
        answer = locked.ask("GET", path, headers=headers)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert locked.get(path, Authorization=f"Bearer {TOKEN}").status in {200, 404}


def test_without_the_token_nobody_acts_or_listens(locked: WebFace, desk: StoryDesk) -> None:
    assert locked.ask("POST", "/api/v1/workers/chat/stop", {}).status == 401
    with pytest.raises(RefusedListenerError, match="HTTP 401"):
        locked.listen()
    with locked.listen({"Authorization": f"Bearer {TOKEN}"}) as listener:
        assert listener.until("snapshot")
    assert desk.asked == []


def test_the_page_and_health_need_no_token(locked: WebFace) -> None:
    assert locked.get("/healthz").status == 200
    assert locked.get("/readyz").status == 200
    assert locked.get("/static/none.js").status == 404
    assert locked.get("/api/v1/session").json() == {
        "token_needed": True,
        "signed_in": False,
        "allow_actions": True,
    }


def test_a_session_stands_for_the_token_until_it_is_ended(locked: WebFace, desk: StoryDesk) -> None:
    assert locked.ask("POST", "/api/v1/session", {"token": "wrong"}).status == 401
    opened = locked.ask("POST", "/api/v1/session", {"token": TOKEN})

    assert opened.status == 204
    cookie = opened.headers["set-cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(cookie.split("; "))
    mine = {"Cookie": cookie.split(";")[0]}
    assert TOKEN not in cookie
    assert locked.ask("GET", "/api/v1/session", headers=mine).json()["signed_in"] is True
    assert locked.ask("POST", "/api/v1/workers/chat/stop", {}, mine).status == 202
    assert re.fullmatch(
        r"uid \d+, pid \d+, for web client 127\.0\.0\.1, session [0-9a-f]{8}", desk.asked[0].by
    )

    assert locked.ask("DELETE", "/api/v1/session", headers=mine).status == 204
    assert locked.ask("GET", "/api/v1/status", headers=mine).status == 401


@pytest.mark.slow
def test_who_signs_out_hears_no_more(locked: WebFace) -> None:
    signed_in = locked.ask("POST", "/api/v1/session", {"token": TOKEN})
    cookie = {"Cookie": signed_in.headers["set-cookie"].partition(";")[0]}
    with locked.listen(cookie) as listener, locked.listen({"Authorization": f"Bearer {TOKEN}"}) as other:
        assert listener.until("snapshot")
        assert locked.ask("DELETE", "/api/v1/session", headers=cookie).status == 204
        while listener.message() is not None:
            pass
        assert listener.closed is not None
        assert (listener.closed.code, listener.closed.reason) == (1008, "the session has ended")
        assert other.until("heartbeat")["daemon"] == "ok"


def test_a_foreign_page_can_neither_sign_in_nor_out(locked: WebFace) -> None:
    foreign = {"Origin": "http://evil.example"}

    assert locked.ask("POST", "/api/v1/session", {"token": TOKEN}, foreign).status == 403
    assert locked.ask("DELETE", "/api/v1/session", headers=foreign).status == 403


def test_guessing_the_token_is_put_off(locked: WebFace) -> None:
    answers = [locked.ask("POST", "/api/v1/session", {"token": f"guess{n}"}).status for n in range(20)]

    assert answers[0] == 401
    assert answers[-1] == 429


def test_the_token_is_told_to_nobody(locked: WebFace) -> None:
    locked.ask("POST", "/api/v1/session", {"token": TOKEN})
    paths = ("/api/v1/status", "/api/v1/session", "/openapi.json", "/api/v1/events")
    told = [locked.get(path, Authorization=f"Bearer {TOKEN}").body for path in paths]

    assert all(TOKEN.encode() not in body for body in told)
    assert TOKEN not in locked.log()
