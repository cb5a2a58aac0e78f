import asyncio
import os
import select
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from supervisor.act.hearing import Callbacks
from supervisor.act.notify_message import merge, parse_notification
from supervisor.act.notify_socket import NotifySockets
from supervisor.model.news import LaunchFailed, News, Notified
from supervisor.model.plan import NotifyTarget
from support.launching import Stage, descriptors, hostile, plan, play


@pytest.mark.parametrize(
    ("message", "heard"),
    [
        (b"READY=1", Notified("w", "r", ready=True)),
        (b"STOPPING=1\n", Notified("w", "r", stopping=True)),
        (b"WATCHDOG=1", Notified("w", "r", watchdog=True)),
        (b"WATCHDOG=trigger", Notified("w", "r", trigger=True)),
        (b"EXTEND_TIMEOUT_USEC=1500000", Notified("w", "r", extend_s=1.5)),
        (b"EXTEND_TIMEOUT_USEC=18446744073709551615", Notified("w", "r", extend_s=86400.0)),
        (b"READY=1\nSTATUS=a\x1b[31m=b\nX_MINE=1", Notified("w", "r", ready=True, status="a[31m=b")),
        (b"STATUS=" + b"x" * 5000, Notified("w", "r", status="x" * 200)),
        (b"STATUS=", Notified("w", "r", status="")),
        (b"READY=0", None),
        (b"READY=1=1", None),
        (b"EXTEND_TIMEOUT_USEC=-1", None),
        (b"EXTEND_TIMEOUT_USEC=" + b"9" * 5000, None),
        ("EXTEND_TIMEOUT_USEC=²".encode(), None),
        (b"BARRIER=1", None),
        (b"", None),
        (b"\xff\x00\n==\n=", None),
    ],
)
def test_what_sd_notify_says_is_understood_and_all_else_ignored(
    message: bytes, heard: Notified | None
) -> None:
    assert parse_notification("w", "r", message) == heard


def test_two_messages_come_to_one() -> None:
    first = Notified("w", "r", ready=True, status="a", extend_s=1.0)
    second = Notified("w", "r", watchdog=True, status="b")
    assert merge(first, second) == Notified("w", "r", ready=True, watchdog=True, status="b", extend_s=1.0)


class _Line:
    """The sockets of one directory, and a client."""

    def __init__(self, directory: Path) -> None:
        self.heard: list[News] = []
        callbacks = Callbacks(self.heard.append, pytest.fail, lambda _run, _pid: True)
        self.sockets = NotifySockets(directory, callbacks, asyncio.get_running_loop())

    async def hears(self, count: int) -> None:
        for _ in range(2000):
            if len(self.heard) >= count:
                return
            await asyncio.sleep(0.005)
        pytest.fail(f"heard {self.heard}")


def _talk(directory: Path, scene: Callable[[_Line], Awaitable[None]]) -> None:
    async def talked() -> None:
        line = _Line(directory)
        try:
            await scene(line)
        finally:
            line.sockets.close()

    asyncio.run(talked())


def _send(path: Path, *messages: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.settimeout(1.0)
        for message in messages:
            client.sendto(message, str(path))


def test_a_socket_can_be_written_by_its_owner_only(tmp_path: Path) -> None:
    async def scene(line: _Line) -> None:
        path = line.sockets.bind("chat", "run-1")
        assert path == tmp_path / "notify/chat.sock"
        assert path.stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "notify").stat().st_mode & 0o777 == 0o711

    _talk(tmp_path / "notify", scene)


def test_garbage_and_long_messages_do_not_hide_what_follows(tmp_path: Path) -> None:
    async def scene(line: _Line) -> None:
        _send(line.sockets.bind("chat", "run-1"), b"\xff\xfe", b"READY=1\n" + b"x" * 9000, b"", b"WATCHDOG=1")
        await line.hears(1)
        assert line.heard == [Notified("chat", "run-1", watchdog=True)]

    _talk(tmp_path, scene)


def test_a_barrier_is_released_and_its_descriptor_closed(tmp_path: Path) -> None:
    async def scene(line: _Line) -> None:
        path = line.sockets.bind("chat", "run-1")
        reading, writing = os.pipe()
        before = len(descriptors())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.connect(str(path))
            socket.send_fds(client, [b"BARRIER=1"], [writing])
        os.close(writing)
        poll = select.poll()
        poll.register(reading, 0)
        for _ in range(1000):
            if poll.poll(0):
                break
            await asyncio.sleep(0.005)
        assert poll.poll(0) == [(reading, select.POLLHUP)]
        os.close(reading)
        assert len(descriptors()) == before - 2
        assert line.heard == []

    _talk(tmp_path, scene)


def test_what_an_earlier_run_sent_is_not_heard_for_its_successor(tmp_path: Path) -> None:
    async def scene(line: _Line) -> None:
        path = line.sockets.bind("chat", "run-1")
        _send(path, b"READY=1")
        line.sockets.bind("chat", "run-2")
        _send(path, b"WATCHDOG=1")
        await line.hears(1)
        assert line.heard == [Notified("chat", "run-2", watchdog=True)]

    _talk(tmp_path, scene)


def test_a_socket_is_bound_again_over_one_that_a_dead_daemon_left(tmp_path: Path) -> None:
    async def scene(line: _Line) -> None:
        path = line.sockets.bind("chat", "run-1")
        line.sockets.close()
        assert path.exists()
        line.sockets.bind("chat", "run-1")
        _send(path, b"READY=1")
        await line.hears(1)
        line.sockets.drop("chat")
        assert not path.exists()

    _talk(tmp_path, scene)


def test_a_name_that_is_too_long_is_replaced_by_its_hash_and_a_directory_that_is_raises(
    tmp_path: Path,
) -> None:
    roomy = tmp_path / ("d" * (107 - 1 - 12 - len(str(tmp_path)) - 1))
    cramped = tmp_path / ("d" * 100)

    async def scene(line: _Line) -> None:
        path = line.sockets.bind("a-rather-long-name", "run-1")
        assert path.parent == roomy
        assert len(path.name) == 12
        _send(path, b"READY=1")
        await line.hears(1)

    async def refused(line: _Line) -> None:
        with pytest.raises(OSError, match="a socket's path has at most 107 bytes"):
            line.sockets.bind("chat", "run-1")

    _talk(roomy, scene)
    _talk(cramped, refused)


def test_a_worker_that_floods_its_socket_does_not_keep_the_loop_busy(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        run = stage.launch(plan("n", *hostile("notify-flood")))
        await stage.told(Notified, run)
        stage.news.clear()
        loop = asyncio.get_running_loop()
        began_s, cpu_s = loop.time(), sum(os.times()[:2])
        await asyncio.sleep(0.5)
        told = len(stage.of(Notified, run))
        share = (sum(os.times()[:2]) - cpu_s) / (loop.time() - began_s)
        assert 1 <= told <= 12
        assert share < 0.5

    play(tmp_path, scene)


def test_a_worker_that_must_notify_is_not_launched_without_a_socket(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 100)

    async def scene(stage: Stage) -> None:
        waits = stage.launch(plan("a", *hostile("sleeper"), ready=NotifyTarget()))
        assert stage.of(LaunchFailed, waits)[0].why.startswith("cannot make the NOTIFY_SOCKET of a: ")
        free = stage.launch(plan("b", *hostile("sleeper")))
        assert stage.of(LaunchFailed, free) == []

    play(directory, scene)
