"""What answers at the control socket may be no daemon of ours: one clear error each time, and a new try."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import pytest

from supervisor.web.link import AwayError, Link, RefusedError
from supervisor.web.mirror import Mirror

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def answering(path: Path, answer: bytes, *, hang: bool = False) -> AsyncGenerator[None]:
    """Answer each call with the same bytes, and then wait or hang up."""

    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\0")
                writer.write(answer)
                await writer.drain()
                if not hang:
                    break
        writer.close()

    server = await asyncio.start_unix_server(serve, str(path))
    try:
        yield
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        for _ in range(5):  # both ends are closed by the loop
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "the daemon hung up"),
        (b'{"parameters": {}}', "the daemon hung up"),
        (b"HTTP/1.1 200 OK\r\n\r\n\0", "the daemon's answer is not understood: "),
        (b'{"parameters": 5}\0', "the daemon's answer is not understood: "),
        (b"[" * 100_000 + b"\0", "the daemon's answer is not understood: "),
        (b"\xff\xfe\0", "the daemon's answer is not understood: "),
    ],
)
def test_an_answer_that_is_none_is_one_clear_error(tmp_path: Path, answer: bytes, why: str) -> None:
    async def run() -> None:
        async with answering(tmp_path / "control", answer):
            link = Link(tmp_path / "control")
            for _ in range(2):
                with pytest.raises(AwayError) as caught:
                    await link.call("Status", 5.0)
                assert str(caught.value).startswith(why)
            link.close()

    asyncio.run(run())


def test_an_answer_that_never_ends_is_cut_off(tmp_path: Path) -> None:
    async def run() -> None:
        async with answering(tmp_path / "control", b"x" * (33 << 20), hang=True):
            link = Link(tmp_path / "control")
            with pytest.raises(AwayError, match="has more than 33554432 bytes"):
                await link.call("Status", 30.0)
            link.close()

    asyncio.run(run())


def test_no_answer_is_an_error_after_its_time(tmp_path: Path) -> None:
    async def run() -> None:
        async with answering(tmp_path / "control", b"", hang=True):
            link = Link(tmp_path / "control")
            with pytest.raises(AwayError, match=r"did not answer within 0\.2 s"):
                await link.call("Status", 0.2)
            link.close()

    asyncio.run(run())


def test_a_refusal_is_told_by_its_name(tmp_path: Path) -> None:
    told = b'{"error": "io.gpu-supervisor.Control.Failed", "parameters": {"reason": "the disk is full"}}\0'

    async def run() -> None:
        async with answering(tmp_path / "control", told, hang=True):
            link = Link(tmp_path / "control")
            with pytest.raises(RefusedError, match="the disk is full") as caught:
                await link.call("Status", 5.0)
            assert caught.value.name == "Failed"
            link.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "status", [b"5", b"{}", b'{"gpus": [], "workers": [{}]}', b'{"gpus": 5, "workers": []}']
)
def test_a_state_of_another_shape_is_an_error_and_the_next_one_counts(tmp_path: Path, status: bytes) -> None:
    async def run() -> None:
        now_s = [0.0]
        link = Link(tmp_path / "control")
        mirror = Mirror(link, lambda: now_s[0])
        news = b', "news": {"epoch": "e", "last": 0, "events": []}, "alerts": []}}\0'
        bad = b'{"parameters": {"status": ' + status + news
        async with answering(tmp_path / "control", bad, hang=True):
            with pytest.raises(
                AwayError, match=r"the daemon's answer is not understood: ValueError its (gpus|workers) are"
            ):
                await mirror.look()
        now_s[0] += 1.0
        (tmp_path / "control").unlink(missing_ok=True)
        good = b'{"parameters": {"status": {"gpus": [], "workers": []}' + news
        async with answering(tmp_path / "control", good, hang=True):
            assert (await mirror.look()).status == {"gpus": [], "workers": []}
            link.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("workers", "events", "why"),
    [
        (b'[{"name": "a", "reported": 5}]', b"[]", "ValueError what a worker reports is no object"),
        (b"[]", b'["told"]', "TypeError its events are no objects"),
        (b"[]", b"5", "TypeError"),
    ],
)
def test_garbage_within_an_answer_ends_no_poll(
    tmp_path: Path, workers: bytes, events: bytes, why: str
) -> None:
    told = (
        b'{"parameters": {"status": {"gpus": [], "workers": ' + workers + b'}, "alerts": [], '
        b'"news": {"epoch": "e", "last": 0, "events": ' + events + b"}}}\0"
    )

    async def run() -> None:
        link = Link(tmp_path / "control")
        mirror = Mirror(link, time.monotonic)
        async with answering(tmp_path / "control", told, hang=True):
            with pytest.raises(AwayError, match=f"the daemon's answer is not understood: {why}"):
                await mirror.look()
            link.close()

    asyncio.run(run())


def test_nobody_there_is_told_as_that(tmp_path: Path) -> None:
    async def run() -> None:
        with pytest.raises(AwayError, match="the daemon is not running"):
            await Link(tmp_path / "control").call("Status", 5.0)

    asyncio.run(run())


def test_one_who_comes_later_is_found(tmp_path: Path) -> None:
    async def run() -> None:
        link = Link(tmp_path / "control")
        with pytest.raises(AwayError):
            await link.call("Status", 5.0)
        async with answering(tmp_path / "control", b'{"parameters": {"status": 1}}\0'):
            for _ in range(3):  # it hangs up after each
                assert await link.call("Status", 5.0) == {"status": 1}
                await asyncio.sleep(0)
            link.close()

    asyncio.run(run())
