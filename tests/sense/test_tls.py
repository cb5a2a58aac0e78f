"""Probes over TLS, against real servers with a certificate made for the test."""

import asyncio
import shutil
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from supervisor.sense.http_get import Answer, get
from supervisor.sense.http_post import post_json
from supervisor.sense.tls import machine_trust

ROOT = Path(__file__).parents[2]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def certificate(tmp_path: Path, require: Callable[[object, str], None]) -> Path:
    require(shutil.which("openssl"), "no openssl to make a certificate")
    path = tmp_path / "both.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    names = ["-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        [*command, *names, "-keyout", tmp_path / "key.pem", "-out", tmp_path / "certificate.pem"],
        check=True,
        capture_output=True,
    )
    path.write_bytes((tmp_path / "key.pem").read_bytes() + (tmp_path / "certificate.pem").read_bytes())
    return path


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_name("certificate.pem")))
    machine_trust.cache_clear()
    return certificate


@pytest.fixture(autouse=True)
def forget_trust() -> None:
    machine_trust.cache_clear()


def saying(answer: bytes) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    return handle


def ask(certificate: Path, answer: bytes, host: str = "localhost", body_bytes: int = 1 << 20) -> Answer:
    async def both() -> Answer:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        server = await asyncio.start_server(saying(answer), "127.0.0.1", 0, ssl=context)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await asyncio.wait_for(get(f"https://{host}:{port}/health", body_bytes), 10.0)

    return asyncio.run(both())


def test_an_answer_comes_through_tls(trusted: Path) -> None:
    found = ask(trusted, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready")
    assert (found.status, found.body) == (200, b"ready")


def test_a_body_of_many_records_is_cut_at_its_limit(trusted: Path) -> None:
    found = ask(trusted, b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000, body_bytes=100_000)
    assert found.body == b"x" * 100_000


def test_a_body_without_a_length_ends_with_the_connection(trusted: Path) -> None:
    found = ask(trusted, b"HTTP/1.1 200 OK\r\n\r\n" + b"y" * 70_000)
    assert found.body == b"y" * 70_000


def test_chunks_come_through_tls(trusted: Path) -> None:
    found = ask(
        trusted, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    assert found.body == b"abcde"


def test_a_certificate_that_the_machine_does_not_know_is_refused(certificate: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(certificate, b"HTTP/1.1 200 OK\r\n\r\n")


def test_a_certificate_of_another_name_is_refused(trusted: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(trusted, b"HTTP/1.1 200 OK\r\n\r\n", host="127.0.0.1")


def test_a_document_is_posted_whole_through_tls(trusted: Path) -> None:
    document, came = b"x" * 300_000, bytearray()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.extend(await reader.readuntil(b"\r\n\r\n"))
        came.extend(await reader.readexactly(len(document)))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    async def both() -> Answer:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(trusted)
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
        async with server:
            url = f"https://localhost:{server.sockets[0].getsockname()[1]}/hooks?a=b"
            return await asyncio.wait_for(post_json(url, document, 100), 10.0)

    assert asyncio.run(both()).status == 204
    head, _, body = bytes(came).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /hooks?a=b HTTP/1.1\r\n")
    assert b"\r\nContent-Length: 300000" in head
    assert body == document


def test_a_probe_has_tls_in_a_process_that_was_started_without_openssl(trusted: Path) -> None:
    serve = """
from supervisor.daemon.lean import import_lean
import_lean()
import asyncio, sys
import supervisor.daemon.wiring
from supervisor.sense.http_get import get
assert "libcrypto" not in open("/proc/self/maps").read()
assert "_ssl" not in sys.modules
print(asyncio.run(get(sys.argv[1], 100)).body.decode())
"""

    async def both() -> tuple[bytes, bytes]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(trusted)
        server = await asyncio.start_server(
            saying(b"HTTP/1.1 200 OK\r\n\r\nready"), "127.0.0.1", 0, ssl=context
        )
        async with server:
            url = f"https://localhost:{server.sockets[0].getsockname()[1]}/"
            words = (sys.executable, "-c", serve, url)
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(*words, cwd=ROOT, stdout=pipe, stderr=pipe)
            return await asyncio.wait_for(process.communicate(), 30.0)

    out, err = asyncio.run(both())
    assert out == b"ready\n", err.decode()
