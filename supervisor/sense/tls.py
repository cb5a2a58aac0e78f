"""TLS over a plain connection of asyncio, with OpenSSL loaded by the first probe that needs it.

With asyncio's own TLS every daemon would load it when it starts: 4.5 MiB of its 33, for what probes of
workers on the same machine hardly ever use. See `supervisor.daemon.lean`.
"""

import asyncio
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from msgspec import Struct

if TYPE_CHECKING:
    from ssl import SSLContext

T = TypeVar("T")
READ_BYTES: Final = 16 << 10  # a TLS record holds no more


class Link(Struct, frozen=True):
    """A plain connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@functools.cache
def machine_trust() -> "SSLContext":
    """Return a context that trusts what the machine trusts; blocks while certificates are read from disk."""
    import ssl  # noqa: PLC0415 - see the first lines

    return ssl.create_default_context()


class TlsReader:
    """The decrypted side of a connection: the reading half of `asyncio.StreamReader`, with its errors.

    It reads from the connection only when it is read from, and holds `limit` and a record at most.
    """

    def __init__(self, context: "SSLContext", host: str, link: Link, limit: int) -> None:
        """Speak TLS over `link` to `host`, whose certificate must be of that name."""
        import ssl  # noqa: PLC0415 - see the first lines

        self._link = link
        self._limit = limit
        self._plain = bytearray()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._wants = ssl.SSLWantReadError
        self._ends = (ssl.SSLEOFError, ssl.SSLZeroReturnError)

    async def begin(self, request: bytes) -> None:
        """Shake hands and send a request. Raises ssl.SSLError, an OSError, where there is no trust."""
        await self._do(self._tls.do_handshake)
        await self._do(functools.partial(self._tls.write, request))

    async def readuntil(self, separator: bytes) -> bytes:
        """Return what comes up to `separator`, and that."""
        while (at := self._plain.find(separator)) < 0:
            if len(self._plain) > self._limit:
                raise asyncio.LimitOverrunError("the limit is exceeded", len(self._plain))
            if not await self._more():
                raise asyncio.IncompleteReadError(bytes(self._plain), None)
        return self._take(at + len(separator))

    async def readexactly(self, size: int) -> bytes:
        """Return `size` bytes."""
        while len(self._plain) < size:
            if not await self._more():
                raise asyncio.IncompleteReadError(bytes(self._plain), size)
        return self._take(size)

    async def read(self, size: int) -> bytes:
        """Return `size` bytes at most, none at the end."""
        if not self._plain:
            await self._more()
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._plain[:size])
        del self._plain[:size]
        return taken

    async def _more(self) -> bool:
        """Decrypt one more record; return False where none comes any more."""
        try:
            data = await self._do(functools.partial(self._tls.read, READ_BYTES))
        except self._ends:
            return False
        self._plain += data
        return bool(data)

    async def _do(self, step: Callable[[], T]) -> T:
        """Take one step of TLS, exchanging with the other side what it asks for."""
        while True:
            try:
                done = step()
            except self._wants:
                self._flush()
                data = await self._link.reader.read(READ_BYTES)
                self._incoming.write(data) if data else self._incoming.write_eof()
            else:
                self._flush()
                return done

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._link.writer.write(data)
