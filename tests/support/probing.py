"""What tests of probes share: servers that answer as a test wants."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def free_port() -> int:
    """Return a port of the loopback that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    """Return an answer in HTTP/1.1."""
    head = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(head).encode() + body


class Pages:
    """A server of fixed pages by path, that notes what it was asked for; those of `silent` never answer."""

    def __init__(self, pages: Mapping[str, bytes], *silent: str) -> None:
        """Begin with these pages; all else is 404."""
        self.pages = dict(pages)
        self.silent = set(silent)
        self._freed = asyncio.Event()
        self.asked: list[str] = []
        self.asked_s: list[float] = []

    def free(self) -> None:
        """Have those that are silent answer, from now on and to whom waits."""
        self.silent.clear()
        self._freed.set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        self.asked.append(path)
        self.asked_s.append(asyncio.get_running_loop().time())
        if path in self.silent:
            await self._freed.wait()
        writer.write(self.pages.get(path, answer("404 Not Found")))


@asynccontextmanager
async def serving(serve: Serve, host: str = "127.0.0.1", port: int = 0) -> AsyncGenerator[int]:
    """Run a server, and give its port."""
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

    server = await asyncio.start_server(handle, host, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
