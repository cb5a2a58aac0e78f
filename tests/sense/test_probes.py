import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Mapping

import pytest

from supervisor.model.news import Purpose
from supervisor.model.plan import CommandTarget, HttpTarget, LlamaTarget, ProbeTarget, TcpTarget
from supervisor.sense.probes import probe
from support.probing import free_port

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
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


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    head = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(head).encode() + body


class Pages:
    """A server of fixed pages by path, that notes what it was asked for."""

    def __init__(self, pages: Mapping[str, bytes]) -> None:
        self.pages = pages
        self.asked: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        self.asked.append(path)
        writer.write(self.pages.get(path, answer("404 Not Found")))


def ask(
    serve: Serve,
    make: Callable[[int], ProbeTarget],
    *,
    timeout_s: float = PATIENCE_S,
    host: str = "127.0.0.1",
    purpose: Purpose = "drain",
) -> tuple[bool, str]:
    """Probe a server that runs for the length of one probe."""

    async def once() -> tuple[bool, str]:
        tasks: set[asyncio.Task[None]] = set()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await serve(reader, writer)
            except (OSError, EOFError, asyncio.CancelledError):
                pass
            finally:
                writer.transport.close()

        server = await asyncio.start_server(handle, host, 0)
        result = await probe(make(server.sockets[0].getsockname()[1]), timeout_s, purpose)
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return result

    return asyncio.run(once())


def http(port: int) -> HttpTarget:
    return HttpTarget(f"http://127.0.0.1:{port}/health")


def llama(port: int) -> LlamaTarget:
    return LlamaTarget(f"http://127.0.0.1:{port}/")


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


def test_a_command_is_not_run_from_here() -> None:
    result = asyncio.run(probe(CommandTarget(("true",)), PATIENCE_S))
    assert result == (False, "cannot run a command from here")


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


def slots(*states: str) -> bytes:
    body = json.dumps([{"id": at, "is_processing": state == "busy"} for at, state in enumerate(states)])
    return answer("200 OK", body.encode())


NO_SLOTS = answer(
    "501 Not Implemented", b'{"error":{"code":501,"message":"This server does not support slots"}}'
)
IDLE_METRICS = answer("200 OK", b"# HELP x\nllamacpp:requests_processing 0\nllamacpp:requests_deferred 0\n")
BUSY_METRICS = answer("200 OK", b"llamacpp:requests_processing 1\nllamacpp:requests_deferred 2\n")


@pytest.mark.parametrize(
    ("pages", "good", "detail"),
    [
        ({"/slots": slots("idle", "idle")}, True, "idle"),
        ({"/slots": slots("idle", "busy")}, False, "1 requests under way"),
        ({"/slots": NO_SLOTS, "/metrics": IDLE_METRICS}, True, "idle"),
        ({"/slots": NO_SLOTS, "/metrics": BUSY_METRICS}, False, "3 requests under way"),
        (
            {"/slots": NO_SLOTS, "/metrics": NO_SLOTS},
            False,
            "cannot tell whether it is idle: it runs with --no-slots and without --metrics",
        ),
        (
            {"/slots": NO_SLOTS, "/metrics": answer("200 OK", b"up 1\n")},
            False,
            "its metrics hold no llamacpp:requests_processing",
        ),
        ({"/slots": answer("503 Service Unavailable", LOADING)}, False, "503 Loading model"),
        ({}, False, "404 Not Found"),
    ],
)
def test_a_llama_server_is_good_for_draining_when_it_is_idle(
    pages: Mapping[str, bytes],
    good: bool,  # noqa: FBT001
    detail: str,
) -> None:
    assert ask(Pages(pages), llama) == (good, detail)


@pytest.mark.parametrize("body", [b"{}", b"[1]", b'[{"id":0}]', b"\xff", b"", b'[{"is_processing":"no"}]'])
def test_slots_that_cannot_be_read_are_not_taken_for_idle(body: bytes) -> None:
    good, detail = ask(Pages({"/slots": answer("200 OK", body)}), llama)
    assert not good
    assert detail.startswith("cannot read its slots: ")


def test_a_busy_llama_server_is_well() -> None:
    assert ask(Pages({"/slots": slots("busy")}), llama, purpose="health") == (True, "1 requests under way")


def test_a_llama_server_whose_slots_do_not_answer_is_not_well_whatever_its_health_page_says() -> None:
    pages = Pages({"/health": answer("200 OK"), "/props": answer("200 OK", b"{}")})

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await pages(reader, writer)
        if pages.asked[-1] == "/slots":
            await asyncio.sleep(60)

    pages.pages = {**pages.pages, "/slots": b""}
    assert ask(serve, llama, purpose="health", timeout_s=IMPATIENCE_S) == (False, "no answer within 0.3s")
    assert pages.asked == ["/props", "/slots"]


def test_a_sleeping_llama_server_is_idle_and_is_not_woken() -> None:
    pages = Pages(
        {"/props": answer("200 OK", b'{"is_sleeping":true,"total_slots":4}'), "/slots": slots("busy")}
    )
    assert ask(pages, llama) == (True, "asleep")
    assert pages.asked == ["/props"]


def test_the_query_of_a_llama_url_is_kept() -> None:
    pages = Pages({"/api/slots?model=x": slots("idle")})
    result = ask(pages, lambda port: LlamaTarget(f"http://127.0.0.1:{port}/api/?model=x"))
    assert result == (True, "idle")
