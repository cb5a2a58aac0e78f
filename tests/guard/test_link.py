import errno
import logging
import os
import resource
import socket
from pathlib import Path

import pytest

from guard.fake_supervisor import FakeSupervisor
from supervisor.guard.link import Link


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.sock"


def test_what_is_sent_arrives_and_is_answered(path: Path) -> None:
    there, link = FakeSupervisor(path), Link(str(path))
    assert link.send(b"one")
    assert there.datagrams() == [b"one"]
    there.send(b"two")
    assert link.receive() == [b"two"]
    assert link.receive() == []
    assert link.dropped == 0
    link.close()
    there.go()


def test_no_other_socket_can_write_to_the_workers(path: Path) -> None:
    there, link = FakeSupervisor(path), Link(str(path))
    link.send(b"one")
    there.datagrams()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger, pytest.raises(PermissionError):
        stranger.sendto(b"drain", there.worker)
    assert link.receive() == []
    link.close()
    there.go()


def test_what_strangers_send_while_the_supervisor_is_gone_is_thrown_away(path: Path, clock: Clock) -> None:
    there, link = FakeSupervisor(path), Link(str(path), clock)
    link.send(b"one")
    there.datagrams()
    there.leave()
    assert not link.send(b"two")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"lies", there.worker)
        assert link.receive() == []
        stranger.sendto(b"more lies", there.worker)
        clock.now_s += 1
        back = FakeSupervisor(path)
        assert link.send(b"three")
        assert link.receive() == []
        back.datagrams()
        back.send(b"truth")
        assert link.receive() == [b"truth"]
    link.close()
    back.go()


def test_a_full_queue_drops_and_counts_and_goes_on_when_there_is_room(path: Path) -> None:
    there, link = FakeSupervisor(path), Link(str(path))
    sent = 0
    while link.send(b"x") and sent < 10_000:
        sent += 1
    assert 0 < sent < 10_000
    assert not link.send(b"x")
    assert link.dropped == 2
    assert len(there.datagrams()) == sent
    assert link.send(b"y")
    assert there.datagrams() == [b"y"]
    assert link.losses == 0
    link.close()
    there.go()


def test_it_is_tried_again_once_a_second_while_nobody_is_there(path: Path, clock: Clock) -> None:
    link = Link(str(path), clock)
    assert not link.send(b"one")
    there = FakeSupervisor(path)
    assert not link.send(b"two")
    clock.now_s += 0.9
    assert not link.send(b"three")
    clock.now_s += 0.2
    assert link.send(b"four")
    assert there.datagrams() == [b"four"]
    assert link.dropped == 3
    assert link.usable
    link.close()
    there.go()


@pytest.mark.parametrize("tidy", [True, False])
def test_the_next_supervisor_at_the_same_path_gets_the_same_message(
    path: Path, clock: Clock, *, tidy: bool
) -> None:
    first, link = FakeSupervisor(path), Link(str(path), clock)
    assert link.send(b"one")
    descriptor = link.fileno()
    first.go()
    if not tidy:  # for a while there is a file and nobody behind it
        clock.now_s += 1
        assert not link.send(b"lost")
        assert link.usable
    clock.now_s += 1
    path.unlink()
    second = FakeSupervisor(path)
    assert link.send(b"two")
    assert second.datagrams() == [b"two"]
    assert link.losses == 1
    assert link.fileno() == descriptor  # an event loop still watches the right one
    link.close()
    second.go()


def test_a_message_that_is_too_long_is_still_too_long_when_it_is_read(path: Path) -> None:
    there, link = FakeSupervisor(path), Link(str(path))
    link.send(b"one")
    there.datagrams()
    there.send(b"a")
    there.send(b"b" * 5000)
    assert link.receive() == [b"a", b"b" * 4097]  # a message has 4096 bytes at most
    link.close()
    there.go()


def test_a_path_that_is_too_long_or_no_socket_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.bind(str(tmp_path / "stream"))
    stream.listen()
    for path, why in (
        (str(tmp_path / ("x" * 120)), "AF_UNIX path too long"),
        (str(file), "it is no socket"),
        (str(tmp_path / "stream"), os.strerror(errno.EPROTOTYPE)),
    ):
        caplog.clear()
        link = Link(path)
        assert [link.send(b"x") for _ in range(3)] == [False] * 3
        assert not link.usable
        assert link.fileno() == -1
        assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
            (logging.WARNING, f"cannot talk to a supervisor at {path}: {why}; going on alone")
        ]
    stream.close()


def test_an_abstract_name_is_written_with_an_at_sign() -> None:
    name = f"gpu-supervisor-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(b"\0" + name.encode())
        there.settimeout(5)
        link = Link(f"@{name}")
        assert link.send(b"READY=1")
        assert there.recv(100) == b"READY=1"
        link.close()


def test_a_worker_without_a_descriptor_left_drops_and_goes_on_when_there_is_one(
    path: Path, clock: Clock
) -> None:
    there, link = FakeSupervisor(path), Link(str(path), clock)
    assert link.dropped == 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        sent, descriptor = link.send(b"one"), link.fileno()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (sent, descriptor) == (False, -1)
    clock.now_s += 1
    assert link.send(b"two")
    assert link.fileno() >= 0
    link.close()
    there.go()


def test_a_worker_that_closes_all_descriptors_gets_another_socket(path: Path) -> None:
    there, link = FakeSupervisor(path), Link(str(path))
    assert link.send(b"one")
    os.close(link.fileno())
    assert link.send(b"two")
    assert there.datagrams() == [b"one", b"two"]
    os.close(link.fileno())
    link.close()
    there.go()


def test_a_worker_that_closes_all_descriptors_is_heard_again_whenever_it_finds_out(
    path: Path, clock: Clock
) -> None:
    there, link = FakeSupervisor(path), Link(str(path), clock)
    assert link.send(b"one")
    os.close(link.fileno())
    assert link.receive() == []
    assert link.send(b"two")
    there.leave()
    assert not link.send(b"three")
    os.close(link.fileno())
    there = FakeSupervisor(path)
    clock.now_s += 1
    assert not link.send(b"four")
    assert link.send(b"five")
    assert there.datagrams() == [b"five"]
    link.close()
    there.go()


def test_what_the_worker_opens_in_the_place_of_a_socket_that_it_closed_stays_open(path: Path) -> None:
    there, link = FakeSupervisor(path), Link(str(path))
    assert link.send(b"one")
    taken = link.fileno()
    with path.with_name("other").open("w+b") as other:
        os.dup2(other.fileno(), taken)
        assert link.receive() == []
        assert link.send(b"two")
        assert os.fstat(taken).st_ino == os.fstat(other.fileno()).st_ino
    os.close(taken)
    assert there.datagrams() == [b"one", b"two"]
    link.close()
    there.go()


def test_the_socket_does_not_outlive_an_exec(path: Path) -> None:
    there, link = FakeSupervisor(path), Link(str(path))
    assert not os.get_inheritable(link.fileno())
    link.close()
    there.go()
