"""What clients send that is no request, never ends, or is never read."""

import contextlib
import socket
import time

import msgspec
import pytest

from support.control_desk import StoryDesk, worker
from support.web_face import RefusedListenerError, WebFace

HEAD = b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n"


def _closed_within(sock: socket.socket, within_s: float) -> bool:
    """Read until the other end closes; say whether it did."""
    deadline_s = time.monotonic() + within_s
    sock.settimeout(0.5)
    while time.monotonic() < deadline_s:
        try:
            if not sock.recv(1 << 16):
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def _everything(sock: socket.socket) -> bytes:
    content = b""
    with contextlib.suppress(ConnectionResetError):
        while part := sock.recv(1 << 16):
            content += part
    return content


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
        b"\x00" * 1000,
        b"HELO mail\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_garbage_closes_its_connection_and_nothing_else(face: WebFace, garbage: bytes) -> None:
    with face.raw() as sock:
        sock.sendall(garbage)
        answer = _everything(sock)
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
    assert face.get("/api/v1/status").status == 200
    assert "Traceback" not in face.log()


def test_too_many_headers_are_refused(face: WebFace) -> None:
    headers = b"".join(b"X-%d: y\r\n" % number for number in range(100))
    with face.raw() as sock:
        sock.sendall(HEAD + headers + b"Connection: close\r\n\r\n")
        assert b" 431 " in _everything(sock).split(b"\r\n")[0]


def test_a_long_address_is_refused(face: WebFace) -> None:
    assert face.get("/api/v1/workers/" + "x" * 3000).status == 414


def test_a_body_that_is_too_large_is_refused_before_it_is_read(face: WebFace) -> None:
    with face.raw() as sock:
        sock.sendall(
            b"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000000000\r\n\r\n" + b"x" * 60_000
        )
        assert b" 413 " in _everything(sock).split(b"\r\n")[0]


@pytest.mark.slow
def test_a_request_that_never_ends_is_cut_off(face: WebFace) -> None:
    def drip(first: bytes, drop: bytes) -> bool:
        with face.raw() as sock:
            sock.sendall(first)
            deadline_s = time.monotonic() + 25
            sock.settimeout(0.3)
            while time.monotonic() < deadline_s:
                try:
                    sock.sendall(drop)
                    if not sock.recv(4096):
                        return True
                except TimeoutError:
                    continue
                except OSError:
                    return True
        return False

    assert drip(HEAD, b"X: y\r\n"[:1])
    body = b"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    assert drip(body + b"Content-Length: 10000\r\n\r\n", b" ")


@pytest.mark.slow
def test_a_connection_that_says_nothing_is_cut_off(face: WebFace) -> None:
    with face.raw() as sock:
        assert _closed_within(sock, 25)


@pytest.mark.slow
def test_a_second_request_has_its_time_too(face: WebFace) -> None:
    with face.raw() as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HT")
        assert _closed_within(sock, 25)


@pytest.mark.slow
def test_five_hundred_slow_clients_keep_nobody_waiting(face: WebFace) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            sock = stack.enter_context(face.raw())
            sock.sendall(b"GET / HTTP/1.1\r\nHo")
        for _ in range(20):
            assert face.get("/api/v1/status").status == 200


@pytest.mark.slow
def test_answers_that_nobody_reads_cost_little_memory(face: WebFace, desk: StoryDesk) -> None:
    many = tuple(worker(f"w{number}", settings={"x": "y" * 2000}) for number in range(300))
    desk.now = msgspec.structs.replace(desk.now, workers=many)
    face.until(lambda: len(face.get("/api/v1/status").body) > 600_000, "the new state is there")
    before = face.rss_bytes()
    with contextlib.ExitStack() as stack:
        for _ in range(300):  # 300 answers of 800 KiB are 240 MiB
            sock = stack.enter_context(face.raw())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.sendall((HEAD + b"\r\n") * 3)
        face.until(lambda: face.get("/healthz").status in {200, 503}, "it still answers")
        assert face.rss_bytes() - before < 120 << 20
        face.until(lambda: face.get("/api/v1/status").status == 200, "the silent are cut off", 40)
    assert "Traceback" not in face.log()


def test_too_many_connections_are_told_to_come_later(face: WebFace) -> None:
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(face.raw()) for _ in range(1003)]
        for sock in socks[-2:]:
            sock.sendall(HEAD + b"\r\n")
        assert _everything(socks[-1]).startswith(b"HTTP/1.1 503")
    face.until(lambda: face.get("/healthz").status == 200, "it serves again")


@pytest.mark.slow
def test_too_many_listeners_are_refused(face: WebFace) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(600):
            stack.enter_context(face.listen())
        with pytest.raises(RefusedListenerError, match="HTTP 503"):
            face.listen()
        assert face.get("/api/v1/status").status == 200
    face.until(lambda: _listens(face), "there is room again")


def _listens(face: WebFace) -> bool:
    try:
        face.listen().close()
    except RefusedListenerError:
        return False
    return True


def test_pings_that_nobody_reads_the_answers_of_end_the_connection(face: WebFace) -> None:
    with face.listen() as listener:
        listener.until("snapshot")
        listener.sock.settimeout(0.5)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):  # noqa: PT012 - which ping, nobody knows
            for _ in range(3_000_000):
                try:
                    listener.sock.sendall(b"\x89\xfd" + b"\x00" * 4 + b"p" * 125)
                except TimeoutError:
                    continue
    assert face.get("/healthz").status == 200


def test_an_end_is_graceful_and_quick(face: WebFace) -> None:
    with face.listen() as listener:
        listener.until("snapshot")
        assert face.end() == 0
        while listener.message() is not None:
            pass
        assert listener.closed is not None
        assert listener.closed.code == 1012
