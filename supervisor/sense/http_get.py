"""One HTTP/1.1 request on asyncio streams: bounded, without redirects, the connection not kept."""

import asyncio
import re
from typing import Final, Protocol
from urllib.parse import SplitResult, quote, urlsplit

from msgspec import Struct

from supervisor.sense.tls import Link, TlsReader, machine_trust

HEAD_BYTES: Final = 64 << 10
INTERIM_ANSWERS: Final = 8  # 1xx before the real one
STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] (\d{3})(?: ([^\r\n]*))?\r?\n")
HEADER: Final = re.compile(
    rb"^(content-length|transfer-encoding):[ \t]*([^\r\n]*?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE
)
CHUNK_HEAD_BYTES: Final = 32
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Asked(Struct, frozen=True):
    """What is asked: a method, and what goes with it; headers are ASCII."""

    method: str
    headers: tuple[str, ...] = ()
    body: bytes = b""


class Answer(Struct, frozen=True):
    """What came back; `body` is cut at the limit that was asked for."""

    status: int
    reason: str
    body: bytes


class BadAnswerError(Exception):
    """The answer is not HTTP, or breaks off."""


class Reader(Protocol):
    """What is read of a connection, encrypted or not; see `asyncio.StreamReader`."""

    async def readuntil(self, separator: bytes) -> bytes:
        """Return what comes up to `separator`, and that."""
        ...

    async def readexactly(self, n: int, /) -> bytes:
        """Return `n` bytes."""
        ...

    async def read(self, n: int, /) -> bytes:
        """Return `n` bytes at most, none at the end."""
        ...


async def get(url: str, body_bytes: int) -> Answer:
    """Get `url`, reading `body_bytes` of body at most.

    Raises OSError where the server cannot be reached, BadAnswerError where it does not answer in HTTP, and
    ValueError where the URL cannot be read. Waits for ever: the caller sets the deadline.
    """
    return await exchange(url, Asked("GET"), body_bytes)


async def exchange(url: str, asked: Asked, body_bytes: int) -> Answer:
    """Ask `url` for what is asked; all else is as with `get`."""
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError("cannot read its URL: it must begin with http:// or https:// and name a host")
    # The certificates of the machine are read from disk once, outside the loop.
    context = await asyncio.to_thread(machine_trust) if parts.scheme == "https" else None
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    reader, writer = await asyncio.open_connection(parts.hostname, port, limit=HEAD_BYTES)
    request = _request(asked, parts) + asked.body
    try:
        if context is None:
            writer.write(request)
            return await _answer(reader, body_bytes)
        decrypted = TlsReader(context, parts.hostname, Link(reader, writer), HEAD_BYTES)
        await decrypted.begin(request)
        return await _answer(decrypted, body_bytes)
    except asyncio.IncompleteReadError as error:
        raise BadAnswerError("closed the connection in the middle of its answer") from error
    except asyncio.LimitOverrunError as error:
        raise BadAnswerError(f"more than {HEAD_BYTES >> 10} KiB of headers") from error
    finally:
        writer.transport.abort()  # neither a goodbye nor a flush is worth waiting for


def _request(asked: Asked, parts: SplitResult) -> bytes:
    safe = "/%:=&~+!$,;'@()*?"
    path = quote(parts.path or "/", safe=safe) + (f"?{quote(parts.query, safe=safe)}" if parts.query else "")
    head = (
        f"{asked.method} {path} HTTP/1.1",
        f"Host: {parts.netloc.rpartition('@')[2]}",
        "User-Agent: gpu-supervisor",
        "Accept: */*",
        "Connection: close",
        *asked.headers,
    )
    return "\r\n".join((*head, "", "")).encode("ascii")


async def _answer(reader: Reader, body_bytes: int) -> Answer:
    for _ in range(INTERIM_ANSWERS):
        head = await reader.readuntil(b"\r\n\r\n")
        line = STATUS_LINE.match(head)
        if line is None:
            raise BadAnswerError("its answer is not HTTP")
        status = int(line[1])
        if status >= 200:  # noqa: PLR2004 - the final answer follows those of 1xx
            reason = (line[2] or b"").decode(errors="replace")
            return Answer(status, reason, await _body(reader, head, body_bytes))
    raise BadAnswerError("only interim answers")


async def _body(reader: Reader, head: bytes, limit: int) -> bytes:
    headers = {name.lower(): value for name, value in HEADER.findall(head)}
    if b"chunked" in headers.get(b"transfer-encoding", b"").lower():
        return await _chunks(reader, limit)
    length = headers.get(b"content-length")
    if length is None:
        return await _up_to(reader, limit)
    if not length.isdigit():
        raise BadAnswerError("its Content-Length is not a number")
    return await reader.readexactly(min(int(length), limit))


async def _up_to(reader: Reader, limit: int) -> bytes:
    body = b""
    while len(body) < limit and (part := await reader.read(limit - len(body))):
        body += part
    return body


async def _chunks(reader: Reader, limit: int) -> bytes:
    body = b""
    while len(body) < limit:
        line = await reader.readuntil(b"\n")
        try:
            size = int(line.split(b";")[0][:CHUNK_HEAD_BYTES], 16)
        except ValueError:
            raise BadAnswerError("its chunks cannot be read") from None
        if size <= 0:
            break
        body += await reader.readexactly(min(size, limit - len(body)))
        if len(body) < limit:
            await reader.readexactly(2)
    return body
