# ruff: noqa: T201 - a program that prints
"""Load a web face: listeners on its WebSocket, and so many requests a second; print what came back as JSON.

python tests/bench/web_load.py PORT SECONDS LISTENERS REQUESTS_A_SECOND
"""

import asyncio
import json
import sys
import time
from typing import Final

CONNECTIONS: Final = 50
UPGRADE: Final = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
REQUEST: Final = b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Load:
    """What was sent and what came back."""

    def __init__(self, port: int, until_s: float) -> None:
        self.port = port
        self.until_s = until_s
        self.spans_ms: list[float] = []
        self.failed = 0
        self.listened_bytes = 0
        self.listening = 0

    async def ask(self, pause_s: float, first_s: float) -> None:
        """Ask again and again over one connection, at a steady rate."""
        await asyncio.sleep(first_s)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        due_s = time.monotonic()
        while due_s < self.until_s:
            begun_s = time.monotonic()
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            self.failed += not head.startswith(b"HTTP/1.1 200")
            self.spans_ms.append((time.monotonic() - begun_s) * 1000)
            due_s += pause_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        writer.close()

    async def listen(self) -> None:
        """Listen and count bytes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(UPGRADE)
        if (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101"):
            self.listening += 1
        while time.monotonic() < self.until_s:
            try:
                async with asyncio.timeout(max(0.01, self.until_s - time.monotonic())):
                    heard = await reader.read(1 << 16)
            except TimeoutError:
                break
            self.listened_bytes += len(heard)
            if not heard:
                break
        self.listening -= reader.at_eof()
        writer.close()


async def main(port: int, seconds: float, listeners: int, rate: float) -> None:
    """Load, and tell what came of it."""
    load = Load(port, time.monotonic() + seconds)
    pause_s = CONNECTIONS / rate
    asking = [load.ask(pause_s, pause_s * at / CONNECTIONS) for at in range(CONNECTIONS)]
    await asyncio.gather(*asking, *(load.listen() for _ in range(listeners)))
    spans = sorted(load.spans_ms)
    told = {
        "requests_a_second": len(spans) / seconds,
        "failed": load.failed,
        "median_ms": spans[len(spans) // 2],
        "p99_ms": spans[int(len(spans) * 0.99)],
        "listening": load.listening,
        "listened_mb_a_second": load.listened_bytes / seconds / 1e6,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
