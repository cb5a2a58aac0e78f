import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.act.hearing import Callbacks
from supervisor.act.notify_socket import NotifySockets
from supervisor.daemon.fd_store import FdStore
from supervisor.model.news import Notified, Reported
from supervisor.model.phase import Pressure
from supervisor.model.report import Report

PID = 4711


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "manager"))
        listening.settimeout(5)
        yield listening


def callbacks(heard: list[Notified | Reported]) -> Callbacks:
    return Callbacks(heard.append, pytest.fail, lambda run, pid: (run, pid) == ("run-1", os.getpid()))


def handed_down(names: str, *descriptors: int) -> tuple[dict[str, str], int]:
    """Return what the manager says of descriptors with numbers in a row, and the first of them."""
    first = 500
    for place, descriptor in enumerate(descriptors):
        os.dup2(descriptor, first + place)
    told = {"LISTEN_PID": str(PID), "LISTEN_FDS": str(len(descriptors)), "LISTEN_FDNAMES": names}
    return told, first


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_what_a_worker_says_while_there_is_no_daemon_is_heard_by_the_next(
    manager: socket.socket, tmp_path: Path
) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "manager")}
    heard: list[Notified | Reported] = []

    async def first() -> tuple[Path, int]:
        sockets = NotifySockets(tmp_path, callbacks(heard), asyncio.get_running_loop(), FdStore(environ, PID))
        path = sockets.bind("chat", "run-1")
        message, [kept], _, _ = socket.recv_fds(manager, 4096, 1)
        assert message == b"FDSTORE=1\nFDNAME=run-1"
        sockets.close()
        return path, kept

    path, kept = asyncio.run(first())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as worker:
        worker.sendto(b"READY=1", str(path))
        worker.sendto(b'{"v": 1, "level": "high"}', str(path))
    told, number = handed_down("run-1", kept)
    os.close(kept)

    async def second() -> None:
        store = FdStore({**environ, **told}, PID, number)
        sockets = NotifySockets(tmp_path, callbacks(heard), asyncio.get_running_loop(), store)
        assert sockets.bind("chat", "run-1") == path
        for _ in range(500):
            if len(heard) == 2:
                break
            await asyncio.sleep(0.01)
        manager.recv(4096)
        sockets.drop("chat")
        assert manager.recv(4096) == b"FDSTOREREMOVE=1\nFDNAME=run-1"
        sockets.close()

    asyncio.run(second())
    notified, reported = heard
    assert notified == Notified("chat", "run-1", ready=True)
    assert isinstance(reported, Reported)
    assert reported.report == Report(v=1, level=Pressure.HIGH)


def test_a_socket_that_was_kept_for_an_earlier_run_is_let_go(manager: socket.socket, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as old:
        old.bind(str(tmp_path / "old"))
        told, number = handed_down("run-0", old.fileno())
    store = FdStore({"NOTIFY_SOCKET": str(tmp_path / "manager"), **told}, PID, number)
    assert store.take("run-1") is None
    store.drop_rest()
    assert not is_open(number)
    assert manager.recv(4096) == b"FDSTOREREMOVE=1\nFDNAME=run-0"
    assert store.take("run-0") is None


def test_descriptors_that_are_meant_for_another_process_are_left_alone(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        told, number = handed_down("run-0", file.fileno())
    store = FdStore(told, PID + 1, number)
    assert store.take("run-0") is None
    store.drop_rest()
    assert is_open(number)
    os.close(number)


def test_a_file_that_is_no_socket_is_closed(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        told, number = handed_down("run-0", file.fileno())
    assert FdStore(told, PID, number).take("run-0") is None
    assert not is_open(number)


def test_without_a_manager_nothing_is_kept_and_nothing_fails(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mine:
        for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "nobody")}):
            store = FdStore(environ, PID)
            store.keep("run-1", mine)
            store.drop("run-1")
            assert store.take("run-1") is None
