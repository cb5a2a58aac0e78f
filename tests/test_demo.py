"""`scripts/run`, as a new user types it: what it promises to show within a minute is shown."""

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PORT = 18081  # chat's, in etc/demo.yaml

PROMISED = {
    "chat is ready": {"event": "worker ready", "worker": "chat"},
    "leaky is stopped at its cap": {"event": "worker stopping", "worker": "leaky", "cause": "memory-cap"},
    "leaky goes when it is told to": {"event": "worker exited", "reason": "exited with status 0"},
    "chat is stopped at its age": {"event": "worker stopping", "worker": "chat", "cause": "age"},
    "stubborn is killed": {"event": "worker exited", "worker": "stubborn", "reason": "killed by SIGKILL"},
}


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """Return a directory with room in its path for a socket's name, which tmp_path has not."""
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        yield Path(name)


def is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def events(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def missing(log: Path) -> list[str]:
    seen = events(log)
    return [
        promise
        for promise, fields in PROMISED.items()
        if not any(fields.items() <= event.items() for event in seen)
    ]


@pytest.mark.slow
@pytest.mark.timeout(240)  # the first run installs a llama.cpp server
def test_within_a_minute_the_demo_shows_what_it_promises(
    tmp_path: Path, short_dir: Path, require: Callable[[object, str], None]
) -> None:
    require(not is_taken(PORT), f"port {PORT}, the demo's, is taken")
    log = tmp_path / "log"
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "XDG_RUNTIME_DIR": str(short_dir)}
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [CHECKOUT / "scripts/run"], env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=tmp_path
        ) as demo,
    ):
        try:
            deadline = time.monotonic() + 180
            while missing(log) and demo.poll() is None and time.monotonic() < deadline:
                time.sleep(0.2)
            assert missing(log) == [], log.read_text()
            begun, *_, last = (event["timestamp"] for event in events(log))
            status = subprocess.run(
                [CHECKOUT / "scripts/run", "status", "--json"],
                env=environment,
                capture_output=True,
                check=True,
                timeout=20,
            )
            workers = {worker["name"] for worker in json.loads(status.stdout)["workers"]}
            assert workers == {"chat", "leaky", "stubborn"}
            assert seconds(last) - seconds(begun) < 60
        finally:
            demo.send_signal(signal.SIGINT)
            assert demo.wait(20) == 0, log.read_text()


def seconds(timestamp: str) -> float:
    """Return the seconds of a day in `2026-01-31T12:00:01.5Z`."""
    found = re.search(r"T(\d+):(\d+):([\d.]+)Z", timestamp)
    assert found
    hours, minutes, rest = found.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def test_a_demo_whose_port_is_taken_says_so(short_dir: Path) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not is_taken(PORT):
            other.bind(("127.0.0.1", PORT))
            other.listen()
        done = run_demo(XDG_RUNTIME_DIR=str(short_dir))
    assert done.returncode == 1
    assert f"port {PORT}, which the demo's llama.cpp server uses, is taken" in done.stderr


def test_a_path_too_long_for_a_socket_is_told_before_anything_starts() -> None:
    done = run_demo(XDG_RUNTIME_DIR="/run/" + "long" * 20)
    assert done.returncode == 1
    assert "too long a path for Unix sockets; set XDG_RUNTIME_DIR" in done.stderr


def test_too_old_a_python_is_one_clear_line(tmp_path: Path) -> None:
    old = tmp_path / "python2.7"
    old.write_text("#!/bin/sh\necho Python 2.7.18\nexit 1\n")
    old.chmod(0o755)
    done = run_demo(PYTHON=str(old))
    assert done.returncode == 1
    assert done.stderr == (
        f"scripts/environment: cannot make .venv: PYTHON={old} is Python 2.7.18, older than Python 3.11\n"
    )


def run_demo(**more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CHECKOUT / "scripts/run"],
        env={**os.environ, **more},
        text=True,
        capture_output=True,
        check=False,
        timeout=50,
    )
