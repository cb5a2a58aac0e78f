"""A worker that speaks the guard's protocol itself, for tests of the daemon's side; standard library only.

    reporter.py [--life SECONDS] [--heard FILE] [--rate SECONDS] [--beats N] [--drain SECONDS]
                [--poison TEXT] [--ooms N] [--job NAME] [--child]

It reports every so often until it is told to end, and appends what it is told to FILE, one JSON document a
line. With `--beats`, its work loop hangs after so many. With `--drain`, it says that it is drained so long
after it was asked. With `--child`, it is a child of its main process that reports.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any


class Guard:
    """The worker's end of the protocol: connects anew when the daemon has gone."""

    def __init__(self) -> None:
        self.path = os.environ["GPU_SUPERVISOR_SOCKET"]
        self.socket = self.connected()

    def connected(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        with contextlib.suppress(OSError):
            made.connect(self.path)
            made.bind(b"")
        return made

    def say(self, report: dict[str, Any]) -> None:
        try:
            self.socket.send(json.dumps({"v": 1} | report).encode())
        except BlockingIOError:
            return
        except OSError:
            self.socket.close()
            self.socket = self.connected()

    def heard(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        with contextlib.suppress(OSError):
            while True:
                found.append(json.loads(self.socket.recv(4096)))
        return found


def main() -> None:
    """Report until ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--heard")
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--beats", type=int, default=1 << 30)
    parser.add_argument("--drain", type=float)
    parser.add_argument("--poison")
    parser.add_argument("--ooms", type=int, default=0)
    parser.add_argument("--job")
    parser.add_argument("--child", action="store_true")
    parser.add_argument(
        "--life", type=int, default=120, help="seconds until SIGALRM, should everybody forget it"
    )
    options = parser.parse_args()
    signal.alarm(options.life)
    if options.child and os.fork():
        while True:
            signal.pause()
    signal.alarm(options.life)
    _work(options, Guard())


def _work(options: argparse.Namespace, guard: Guard) -> None:
    drained_s: float | None = None
    sent = 0
    while True:
        sent += 1
        report: dict[str, Any] = {
            "seq": sent,
            "ready": True,
            "beat": sent <= options.beats,
            "drained": drained_s is not None and time.monotonic() >= drained_s,
            "level": "high",
            "memory": {
                "current_pressure": "high",
                "oom_events": options.ooms,
                "usage_percent": 80.5,
                "total_gb": 24,
            },
            "poisoned": options.poison,
        }
        if options.job is not None:
            report["progress"] = {"job": options.job, "state": "processing", "done": sent, "total": 1000}
        guard.say(report)
        if options.poison is not None:
            os._exit(79)
        time.sleep(options.rate)
        for words in guard.heard():
            if options.heard is not None:
                with Path(options.heard).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(words) + "\n")
            if words["drain"] is not None and options.drain is not None and drained_s is None:
                drained_s = time.monotonic() + options.drain


if __name__ == "__main__":
    main()
