import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.daemon.service import Service, watchdog_interval_s


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(5)
        yield listening


def test_the_manager_is_told_each_state(manager: socket.socket) -> None:
    service = Service({"NOTIFY_SOCKET": "set"}, lambda: 12.345678)
    service.ready()
    service.status("3 workers ready\n1 held and größer")
    service.watchdog()
    service.reloading()
    service.stopping()
    service.extend(1.5)
    assert [manager.recv(4096).decode() for _ in range(6)] == [
        "READY=1",
        "STATUS=3 workers ready 1 held and größer",
        "WATCHDOG=1",
        "RELOADING=1\nMONOTONIC_USEC=12345678",
        "STOPPING=1",
        "EXTEND_TIMEOUT_USEC=1500000",
    ]
    service.close()
    service.ready()


def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    service = Service({})
    service.ready()
    service.status("x")
    service.close()


def test_a_manager_that_hangs_does_not_hang_the_daemon(manager: socket.socket) -> None:
    service = Service({"NOTIFY_SOCKET": "set"})
    began_s = time.monotonic()
    for _ in range(50):
        service.status("x" * 50_000)  # nobody reads: the queue is soon full
    assert time.monotonic() - began_s < 20
    assert manager.recv(1 << 20).startswith(b"STATUS=xxx")
    service.close()


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
    ],
)
def test_the_watchdog_is_told_twice_in_its_time(environ: dict[str, str], interval_s: float | None) -> None:
    assert watchdog_interval_s(environ, 42) == interval_s
