import base64
import logging
import os
import socket
import time
from pathlib import Path

import pytest

from supervisor.guard.pressure import Pressure
from supervisor.guard.stall_watch import StallWatch

PSI = Path("/proc/pressure/memory")
TRIGGER = b"some 150000 2000000\0"


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def environment(path: Path | str, write: bytes = b"") -> dict[str, str]:
    words = {"MEMORY_PRESSURE_WRITE": base64.b64encode(write).decode()} if write else {}
    return {"MEMORY_PRESSURE_WATCH": str(path), **words}


@pytest.mark.parametrize("given", [{}, {"MEMORY_PRESSURE_WATCH": ""}, environment("/dev/null")])
def test_nothing_named_or_dev_null_is_switched_off(
    given: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    watch = StallWatch(given)
    assert not watch.active
    assert watch.level() is Pressure.NORMAL
    assert caplog.records == []


def test_a_stall_told_by_a_fifo_is_high_for_ten_seconds(tmp_path: Path, clock: Clock) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    watch = StallWatch(environment(fifo), clock)
    assert watch.active
    assert watch.level() is Pressure.NORMAL
    with fifo.open("wb", buffering=0) as writer:
        writer.write(b"stall" * 3000)
        assert watch.level() is Pressure.HIGH
        clock.now_s += 9.9
        assert watch.level() is Pressure.HIGH
        clock.now_s += 0.2
        assert watch.level() is Pressure.NORMAL
        writer.write(b"again")
        assert watch.level() is Pressure.HIGH
    watch.close()


def test_a_stall_told_by_a_stream_socket_is_high_for_ten_seconds_even_if_it_was_the_last(
    tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        watch = StallWatch(environment(path, b"some words"), clock)
        there, _ = listener.accept()
        with there:
            there.settimeout(5)
            assert there.recv(100) == b"some words"
            assert watch.level() is Pressure.NORMAL
            there.send(b"\n")
            assert watch.level() is Pressure.HIGH
            clock.now_s += 10
            assert watch.level() is Pressure.NORMAL
            there.send(b"last\n")
    assert watch.level() is Pressure.HIGH
    clock.now_s += 10
    assert watch.level() is Pressure.NORMAL
    watch.close()


def test_writers_of_a_fifo_may_come_and_go(tmp_path: Path, clock: Clock) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    watch = StallWatch(environment(fifo), clock)
    levels: list[Pressure] = []
    for _ in range(2):
        with fifo.open("wb", buffering=0) as writer:
            writer.write(b"x")
        levels.append(watch.level())
        clock.now_s += 10
        levels.append(watch.level())
    assert levels == [Pressure.HIGH, Pressure.NORMAL] * 2
    watch.close()


def test_a_worker_that_closes_all_descriptors_ends_the_watch_only(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    watch = StallWatch(environment(fifo))
    (opened,) = (int(fd.name) for fd in Path("/proc/self/fd").iterdir() if fd.resolve() == fifo)
    os.close(opened)
    assert watch.level() is Pressure.NORMAL
    assert not watch.active


def test_a_plain_file_never_stalls(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    watch = StallWatch(environment(file, TRIGGER))
    assert file.read_bytes() == TRIGGER
    assert watch.level() is Pressure.NORMAL
    assert watch.active
    watch.close()


@pytest.mark.parametrize(
    ("path", "write", "why"),
    [
        ("/nonexistent/pressure", "", "No such file or directory"),
        ("/dev/zero", "", "it is no file, FIFO or socket"),
        ("/", "", "it is no file, FIFO or socket"),
        ("/proc/self/status", "!!", "Only base64 data is allowed"),
    ],
)
def test_what_cannot_be_watched_is_told_once(
    path: str, write: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    watch = StallWatch({"MEMORY_PRESSURE_WATCH": path, "MEMORY_PRESSURE_WRITE": write})
    assert [watch.level() for _ in range(3)] == [Pressure.NORMAL] * 3
    assert not watch.active
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, f"cannot watch for memory stalls by {path}: {why}")
    ]


def granted() -> bool:
    try:
        with PSI.open("r+b", buffering=0) as file:
            file.write(TRIGGER)
    except OSError:
        return False
    return True


@pytest.mark.skipif(not granted(), reason="the kernel grants no trigger on /proc/pressure/memory")
def test_the_kernel_takes_the_trigger_and_tells_of_no_stall_while_there_is_none(clock: Clock) -> None:
    watch = StallWatch(environment(PSI, TRIGGER), clock)
    assert watch.active
    deadline = time.monotonic() + 20
    while watch.level() is not Pressure.NORMAL and time.monotonic() < deadline:
        clock.now_s += 10  # a busy machine may stall right now
    assert watch.level() is Pressure.NORMAL
    assert watch.active
    watch.close()
