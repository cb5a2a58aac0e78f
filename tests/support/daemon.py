"""A real daemon on real workers, for tests: started, asked, killed and started again."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

HOSTILE: Final = Path(__file__).parent / "workers" / "hostile.py"
ROOT: Final = Path(__file__).parents[2]

Document = dict[str, Any]


def hostile(*words: str) -> str:
    """Return the `command:` of a hostile worker, as YAML flow."""
    return json.dumps([sys.executable, str(HOSTILE), *words])


class Daemon:
    """One gpu-supervisor with its own directories. `start` may be called again after a kill."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self.output = folder / "daemon.log"
        self.notes = folder / "notes"  # hostile workers write their pids here
        self.environment = {
            **os.environ,
            "RUNTIME_DIRECTORY": str(folder / "run"),
            "STATE_DIRECTORY": str(folder / "state"),
            **(environment or {}),
        }
        self.environment.pop("NOTIFY_SOCKET", None)
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self, text: str) -> None:
        self.config.write_text(text, encoding="utf-8")

    def start(self, *flags: str) -> None:
        command = [sys.executable, "-m", "supervisor", "run", "--config", str(self.config), *flags]
        with self.output.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        self.until(self.answers, "it answers", 15.0)

    def answers(self) -> bool:
        """Say whether it serves its control socket; it takes signals from before that on."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(0.2)
            try:
                client.connect(str(self.folder / "run" / "control"))
                client.sendall(b'{"method": "org.varlink.service.GetInfo"}\0')
                return bool(client.recv(1))
            except OSError:
                return False

    def run(self, *words: str, timeout_s: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run one command of the product against this daemon."""
        command = [sys.executable, "-m", "supervisor", *words]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def status(self) -> Document:
        done = self.run("status", "--json")
        assert done.returncode == 0, f"{done.stderr}\n{self.log()}"
        document: Document = json.loads(done.stdout)
        return document

    def worker(self, name: str) -> Document:
        found: Document = next(one for one in self.status()["workers"] if one["name"] == name)
        return found

    def until_phase(self, name: str, *phases: str, within_s: float = 20.0) -> Document:
        return self.until_worker(name, lambda one: one["phase"] in phases, f"{name} is {phases}", within_s)

    def until_worker(
        self, name: str, true: Callable[[Document], bool], what: str, within_s: float = 20.0
    ) -> Document:
        seen: list[Document] = []

        def check() -> bool:
            seen.append(self.worker(name))
            return true(seen[-1])

        self.until(check, what, within_s)
        return seen[-1]

    def until(self, true: Callable[[], bool], what: str, within_s: float = 20.0) -> None:
        deadline_s = time.monotonic() + within_s
        while not true():
            if self.process is not None and self.process.poll() is not None:
                pytest.fail(f"the daemon ended ({self.process.returncode}) before {what}:\n{self.log()}")
            if time.monotonic() > deadline_s:
                pytest.fail(f"still not so: {what}\n{self.log()}")
            time.sleep(0.05)

    def log(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace") if self.output.exists() else ""

    def events(self) -> list[Document]:
        """Return the lines of the log, which are JSON where it is not a terminal."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def noted(self) -> list[int]:
        """Return the pids of all processes that hostile workers have written down."""
        if not self.notes.exists():
            return []
        return [int(line.split()[0]) for line in self.notes.read_text(encoding="utf-8").splitlines()]

    def kill(self) -> None:
        """End the daemon as the kernel would: with nothing said."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, within_s: float = 30.0) -> int:
        """End the daemon as systemd would, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)

    def close(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def alive(pid: int) -> bool:
    """Say whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
