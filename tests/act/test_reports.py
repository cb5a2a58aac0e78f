"""A worker's socket as the guard uses it: who is heard, what comes back, and what a flood costs."""

import asyncio
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.act.hearing import MESSAGES_A_WAKE, Callbacks
from supervisor.act.notify_socket import NotifySockets
from supervisor.act.words import MOST_LISTENERS
from supervisor.model.news import Notified, Reported
from supervisor.model.phase import Pressure
from supervisor.model.report import DrainWords, Report, Words
from support.launching import descriptors

SAID = b'{"v": 1, "ready": true}'
HOT = Words(host=Pressure.NORMAL, gpu=Pressure.HIGH, advice=("cool-down",))


class Guard:
    """A worker's end, as the protocol has it: connected, non-blocking, with a name that the kernel picks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.connect(str(path))
        self.socket.bind(b"")

    def say(self, **fields: Any) -> None:  # noqa: ANN401 - whatever JSON holds
        self.socket.send(json.dumps({"v": 1} | fields).encode())

    def heard(self) -> list[Any]:
        found: list[Any] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(json.loads(self.socket.recv(8192)))
        return found


class Line:
    """The sockets of one directory; only `members` may report."""

    def __init__(self, directory: Path) -> None:
        self.news: list[Notified | Reported] = []
        self.warnings: list[str] = []
        self.members = {os.getpid()}
        callbacks = Callbacks(self.news.append, self.warnings.append, lambda _, pid: pid in self.members)
        self.sockets = NotifySockets(directory, callbacks, asyncio.get_running_loop())
        self.guards: list[Guard] = []

    def guard(self, worker: str = "chat", run: str = "run-1") -> Guard:
        path = self.sockets.path(worker)
        if not path.exists():
            self.sockets.bind(worker, run)
        self.guards.append(Guard(path))
        return self.guards[-1]

    @property
    def reports(self) -> list[Reported]:
        return [one for one in self.news if isinstance(one, Reported)]

    async def until(self, true: Callable[[], object], what: str) -> None:
        for _ in range(2000):
            if true():
                return
            await asyncio.sleep(0.005)
        pytest.fail(f"{what}; heard {self.news}, warned {self.warnings}")


def play(directory: Path, scene: Callable[[Line], Awaitable[None]]) -> None:
    async def played() -> None:
        line = Line(directory)
        try:
            await scene(line)
        finally:
            line.sockets.close()
            for guard in line.guards:
                guard.socket.close()

    asyncio.run(played())


def test_one_socket_carries_reports_and_sd_notify(tmp_path: Path) -> None:
    async def scene(line: Line) -> None:
        guard = line.guard()
        guard.say(level="high", beat=True)
        guard.socket.send(b"READY=1")
        await line.until(lambda: len(line.news) == 2, "both are heard")
        notified, reported = line.news
        assert notified == Notified("chat", "run-1", ready=True)
        assert isinstance(reported, Reported)
        assert reported.report == Report(v=1, beat=True, level=Pressure.HIGH)
        assert reported.beat_s == reported.heard_s
        assert not reported.quiet
        assert line.warnings == []

    play(tmp_path, scene)


def test_reports_of_one_wake_come_to_the_newest_state(tmp_path: Path) -> None:
    async def scene(line: Line) -> None:
        guard = line.guard()
        guard.say(ready=True, beat=True, level="high")
        guard.say(level="extreme")
        await line.until(lambda: line.news, "it is heard")
        [reported] = line.reports
        assert reported.report == Report(v=1, ready=True, level=Pressure.EXTREME)
        assert reported.beat_s is not None

    play(tmp_path, scene)


def test_a_report_that_changes_nothing_is_quiet(tmp_path: Path) -> None:
    async def scene(line: Line) -> None:
        guard = line.guard()
        for at in range(3):
            guard.say(beat=True, progress={"job": "a", "done": at})
            await line.until(lambda: len(line.reports) > at, "it is heard")  # noqa: B023
        assert [one.quiet for one in line.reports] == [False, True, True]

    play(tmp_path, scene)


def test_a_process_of_the_same_user_that_is_none_of_the_workers_is_ignored(tmp_path: Path) -> None:
    async def scene(line: Line) -> None:
        path = line.sockets.bind("chat", "run-1")
        line.members.clear()
        line.guard().say(ready=True, poisoned="by a stranger")
        await line.until(lambda: line.warnings, "it is told")
        line.guard().say(ready=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.sendto(b"WATCHDOG=1", str(path))
        await line.until(lambda: line.news, "sd_notify is heard")
        assert line.news == [Notified("chat", "run-1", watchdog=True)]
        why = f"a report to the socket of chat is ignored: pid {os.getpid()} is no process of it"
        assert line.warnings == [why]
        line.sockets.say("chat", "run-1", HOT)
        assert [guard.heard() for guard in line.guards] == [[], []]

    play(tmp_path, scene)


def test_the_sender_is_who_the_kernel_says(tmp_path: Path) -> None:
    async def scene(line: Line) -> None:
        path = line.sockets.bind("chat", "run-1")
        pid = _said_by_another(path)
        await line.until(lambda: line.warnings, "it is ignored")
        assert f"pid {pid} is no process of it" in line.warnings[0]
        assert line.news == []

    play(tmp_path, scene)


def _said_by_another(path: Path) -> int:
    """Have a process of its own report to a socket; return its pid."""
    program = f"import socket; socket.socket(1, 2).sendto({SAID!r}, {str(path)!r})"
    child = subprocess.Popen([sys.executable, "-S", "-c", program])
    assert child.wait(20) == 0
    return child.pid


def test_another_version_is_told_once_for_a_run(tmp_path: Path) -> None:
    async def scene(line: Line) -> None:
        guard = line.guard()
        for _ in range(40):
            await line.until(lambda: _sent(guard, b'{"v": 2}'), "there is room")
        guard.say(level="high")
        await line.until(lambda: line.news, "the one that is understood is heard")
        why = "it speaks version 2 of the protocol, and this supervisor version 1"
        assert line.warnings == [f"a report to the socket of chat is ignored: {why}"]
        assert [one.report.level for one in line.reports] == [Pressure.HIGH]

    play(tmp_path, scene)


def _sent(guard: Guard, message: bytes) -> bool:
    try:
        return guard.socket.send(message) > 0
    except BlockingIOError:
        return False


def test_words_reach_the_guard_that_has_reported(tmp_path: Path) -> None:
    async def scene(line: Line) -> None:
        guard = line.guard()
        line.sockets.say("chat", "run-1", HOT)
        assert guard.heard() == []
        guard.say()
        await line.until(lambda: line.news, "it is heard")
        assert guard.heard() == [
            {"v": 1, "host": "normal", "gpu": "high", "advice": ["cool-down"], "drain": None}
        ]
        line.sockets.say("chat", "run-1", Words(drain=DrainWords("upgrade", 60.0)))
        assert guard.heard() == [
            {
                "v": 1,
                "host": None,
                "gpu": None,
                "advice": [],
                "drain": {"reason": "upgrade", "within_s": 60.0},
            }
        ]
        line.sockets.say("chat", "run-0", HOT)
        line.sockets.say("nobody", "run-1", HOT)
        line.sockets.say_again()
        assert guard.heard() == []

    play(tmp_path, scene)


def test_words_come_from_the_socket_that_the_guard_is_connected_to(tmp_path: Path) -> None:
    async def scene(line: Line) -> None:
        guard = line.guard()
        guard.say()
        await line.until(lambda: line.news, "it is heard")
        name = guard.socket.getsockname()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as liar, pytest.raises(PermissionError):
            liar.sendto(b'{"v": 1, "drain": {"reason": "lies"}}', name)
        line.sockets.say("chat", "run-1", HOT)
        assert len(guard.heard()) == 1

    play(tmp_path, scene)


def test_a_guard_whose_queue_is_full_is_told_the_newest_words_later(tmp_path: Path) -> None:
    async def scene(line: Line) -> None:
        guard = line.guard()
        guard.say()
        await line.until(lambda: line.news, "it is heard")
        for at in range(1000):
            line.sockets.say("chat", "run-1", Words(drain=DrainWords("x", float(at))))
        queued = guard.heard()
        assert len(queued) < 1000
        assert queued[0]["drain"]["within_s"] == 0.0
        line.sockets.say_again()
        assert [one["drain"]["within_s"] for one in guard.heard()] == [999.0]
        line.sockets.say_again()
        assert guard.heard() == []

    play(tmp_path, scene)


def test_each_of_several_processes_is_told_and_one_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    async def scene(line: Line) -> None:
        guards = [line.guard() for _ in range(3)]
        for guard in guards:
            guard.say()
        await line.until(lambda: line.news, "they are heard")
        guards[0].socket.close()
        line.sockets.say("chat", "run-1", HOT)
        assert [len(guard.heard()) for guard in guards[1:]] == [1, 1]
        crowd = [line.guard() for _ in range(MOST_LISTENERS)]
        for guard in crowd:
            await line.until(lambda: _sent(guard, b'{"v": 1}'), "there is room")  # noqa: B023
        await line.until(lambda: all(guard.heard() for guard in crowd[-1:]), "the last is told")
        line.sockets.say("chat", "run-1", Words())
        assert [len(guard.heard()) for guard in guards[1:]] == [0, 0]
        assert len(crowd[-1].heard()) == 1

    play(tmp_path, scene)


def test_a_socket_with_a_path_for_a_name_is_told_nothing(tmp_path: Path) -> None:
    async def scene(line: Line) -> None:
        path = line.sockets.bind("chat", "run-1")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sly:
            sly.bind(str(tmp_path / "sly"))
            sly.sendto(b'{"v": 1}', str(path))
            await line.until(lambda: line.news, "it is heard")
            line.sockets.say("chat", "run-1", HOT)
            with pytest.raises(BlockingIOError):
                sly.recv(100)

    play(tmp_path, scene)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def test_descriptors_that_come_with_reports_leak_nowhere_and_a_barrier_is_still_released(
    tmp_path: Path, pipe: tuple[int, int]
) -> None:
    reading, writing = pipe

    async def scene(line: Line) -> None:
        guard = line.guard()
        guard.say()
        await line.until(lambda: line.news, "it is heard")
        before = len(descriptors())
        for at in range(200):
            message = b"BARRIER=1" if at % 2 else b'{"v": 1}'
            await line.until(lambda: _sent_with(guard, message, [writing] * 100), "there is room")  # noqa: B023
        os.close(writing)
        poll = select.poll()
        poll.register(reading, 0)
        await line.until(lambda: poll.poll(0) == [(reading, select.POLLHUP)], "all are closed")
        assert len(descriptors()) == before - 1

    play(tmp_path, scene)


def _sent_with(guard: Guard, message: bytes, sent_along: list[int]) -> bool:
    try:
        return socket.send_fds(guard.socket, [message], sent_along) > 0
    except BlockingIOError:
        return False


def test_what_a_worker_says_last_is_heard_before_its_end_also_while_its_socket_rests(tmp_path: Path) -> None:
    async def scene(line: Line) -> None:
        guard = line.guard()
        for at in range(2):  # the second wake comes so soon that the socket rests after it
            guard.say(level="high")
            await line.until(lambda: len(line.reports) > at, "it is heard")  # noqa: B023
        guard.say(poisoned="a device-side assert")
        line.sockets.hear_out("chat", "run-0")
        assert line.reports[-1].report.poisoned is None
        line.sockets.hear_out("chat", "run-1")
        assert line.reports[-1].report.poisoned == "a device-side assert"
        line.sockets.hear_out("nobody", "run-1")

    play(tmp_path, scene)


def test_a_flood_is_taken_in_portions(tmp_path: Path) -> None:
    async def scene(line: Line) -> None:
        guard = line.guard()
        guard.say()
        await line.until(lambda: line.news, "it is heard")
        await asyncio.sleep(0)
        sent = 0
        while _sent(guard, b'{"v": 1, "level": "high"}'):
            sent += 1
        assert sent <= MESSAGES_A_WAKE * 64  # the queue of a datagram socket is the kernel's bound
        await line.until(lambda: len(line.reports) == 2, "it is heard as one")
        assert line.reports[1].report.level is Pressure.HIGH

    play(tmp_path, scene)
