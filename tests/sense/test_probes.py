import asyncio
import socket
from collections.abc import Callable

import pytest

from supervisor.model.plan import HttpTarget, TcpTarget
from supervisor.sense.probes import probe
from support.probing import Pages, Serve, answer, free_port, serving

PATIENCE_S = 20.0
IMPATIENCE_S = 0.3


def saying(answer: bytes, *, then_wait: bool = False) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if then_wait:
            await asyncio.sleep(60)

    return serve


def for_ever(first: bytes, part: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(first)
        while True:
            writer.write(part)
            await writer.drain()

    return serve


def ask(
    serve: Serve,
    make: Callable[[int], HttpTarget | TcpTarget],
    *,
    timeout_s: float = PATIENCE_S,
    host: str = "127.0.0.1",
) -> tuple[bool, str]:
    """Probe a server that runs for the length of one probe."""

    async def once() -> tuple[bool, str]:
        async with serving(serve, host) as port:
            return await probe(make(port), timeout_s)

    return asyncio.run(once())


def http(port: int) -> HttpTarget:
    return HttpTarget(f"http://127.0.0.1:{port}/health")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
LOADING = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'


@pytest.mark.parametrize(
    ("said", "good", "detail"),
    [
        (answer("200 OK", b"{}"), True, "200"),
        (b"HTTP/1.0 200\r\n\r\nuntil the end", True, "200"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + answer("200 OK"), True, "200"),
        (CHUNKED, True, "200"),
        (answer("204 No Content"), False, "204 No Content"),
        (answer("302 Found", b"", "Location: /elsewhere"), False, "302 Found"),
        (answer("503 Service Unavailable", LOADING), False, "503 Loading model"),
        (answer("500 Oh", b"{not json"), False, "500 Oh"),
        (answer("500 \x1b[31mred"), False, "500 ?[31mred"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", False, "its answer is not HTTP"),
        (b"\x00\xff\x00", False, "closed the connection in the middle of its answer"),
        (b"", False, "closed the connection in the middle of its answer"),
        (
            answer("200 OK", b"short").replace(b": 5", b": 9"),
            False,
            "closed the connection in the middle of its answer",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", False, "its Content-Length is not a number"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", False, "its chunks cannot be read"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 9, False, "only interim answers"),
    ],
)
def test_an_answer_is_good_when_it_is_200(said: bytes, good: bool, detail: str) -> None:  # noqa: FBT001
    assert ask(saying(said), http) == (good, detail)


def test_a_server_that_says_nothing_is_given_up_at_the_deadline() -> None:
    assert ask(saying(b"", then_wait=True), http, timeout_s=IMPATIENCE_S) == (False, "no answer within 0.3s")


def test_a_server_that_hangs_in_the_middle_of_its_body_is_given_up() -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhel"
    assert ask(saying(said, then_wait=True), http, timeout_s=IMPATIENCE_S) == (False, "no answer within 0.3s")


def test_endless_headers_are_given_up_by_their_size() -> None:
    serve = for_ever(b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n" * 100)
    assert ask(serve, http) == (False, "more than 64 KiB of headers")


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 4096),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 4096),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n"),
    ],
)
def test_of_an_endless_body_only_the_beginning_is_read(head: bytes, part: bytes) -> None:
    assert ask(for_ever(head, part), http) == (True, "200")


def test_a_keep_alive_server_is_not_waited_for() -> None:
    assert ask(saying(answer("200 OK", b"ok"), then_wait=True), http) == (True, "200")


def test_the_path_and_query_are_asked_for_as_written() -> None:
    pages = Pages({"/a%20b?x=1&y=%2F": answer("200 OK")})
    assert ask(pages, lambda port: HttpTarget(f"http://127.0.0.1:{port}/a b?x=1&y=%2F#part")) == (True, "200")


def test_an_ipv6_literal_works() -> None:
    try:
        with socket.socket(socket.AF_INET6) as listener:
            listener.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 loopback on this machine")
    assert ask(saying(answer("200 OK")), lambda port: HttpTarget(f"http://[::1]:{port}/"), host="::1") == (
        True,
        "200",
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_closed_port_is_refused(host: str) -> None:
    url = f"http://{host}:{free_port()}/"
    assert asyncio.run(probe(HttpTarget(url), PATIENCE_S)) == (False, "connection refused")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "127.0.0.1:80", "http:///health", ""])
def test_a_url_that_names_no_http_server_is_bad(url: str) -> None:
    why = "cannot read its URL: it must begin with http:// or https:// and name a host"
    assert asyncio.run(probe(HttpTarget(url), PATIENCE_S)) == (False, why)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:99999/", "http://[::1/", "http://127.0.0.1:x/", f"http://{'a' * 70}.x/"]
)
def test_a_url_that_cannot_be_read_is_bad_and_nothing_is_raised(url: str) -> None:
    good, detail = asyncio.run(probe(HttpTarget(url), PATIENCE_S))
    assert not good
    assert detail


def test_a_tls_probe_of_a_plain_server_is_bad() -> None:
    good, detail = ask(saying(b"plain"), lambda port: HttpTarget(f"https://127.0.0.1:{port}/"), timeout_s=2.0)
    assert not good
    assert detail


def test_a_port_is_good_when_it_accepts() -> None:
    assert ask(saying(b""), lambda port: TcpTarget("127.0.0.1", port)) == (True, "accepts connections")
    assert asyncio.run(probe(TcpTarget("127.0.0.1", free_port()), PATIENCE_S)) == (
        False,
        "connection refused",
    )


def test_a_cancelled_probe_is_cancelled() -> None:
    async def cancelled() -> bool:
        task = asyncio.create_task(probe(TcpTarget("127.0.0.1", free_port()), PATIENCE_S))
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return True
        return False

    assert asyncio.run(cancelled())
