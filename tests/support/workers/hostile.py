"""Small workers that behave badly, each a subcommand; standard library only.

    hostile.py [--log FILE] [--life SECONDS] MODE [ARGUMENTS]

With `--log`, every process that a mode starts appends a line `PID MODE` to FILE, so that a test can
look for it afterwards.
"""

import argparse
import contextlib
import ctypes
import http.server
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_NAME = 15
MIB = 1 << 20


def wait_for_ever() -> None:
    """Sleep until a signal ends the process."""
    while True:
        signal.pause()


def note(options: argparse.Namespace, what: str) -> None:
    """Write down that this process exists, and have it end by SIGALRM should everybody forget it."""
    signal.alarm(options.life)
    if options.log is not None:
        with Path(options.log).open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {what}\n")


def sleeper(options: argparse.Namespace) -> None:
    """Do nothing, and end on SIGTERM."""
    note(options, "main")
    wait_for_ever()


def hang(options: argparse.Namespace) -> None:
    """Do nothing at all: never become ready."""
    note(options, "hang")
    wait_for_ever()


def ignore_term(options: argparse.Namespace) -> None:
    """Do nothing, and not end on SIGTERM, SIGINT or SIGHUP."""
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    note(options, "main")
    wait_for_ever()


def again(options: argparse.Namespace) -> None:
    """End with 0 on the second SIGTERM only, as llama-server can."""
    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, _frame: received.append(signum))
    note(options, "main")
    while len(received) < 2:
        signal.pause()


def grandchild(options: argparse.Namespace) -> None:
    """Have a child that left the session, and one that ignores SIGTERM."""
    if os.fork() == 0:
        os.setsid()
        note(options, "setsid")
        wait_for_ever()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note(options, "child")
        wait_for_ever()
    note(options, "main")
    wait_for_ever()


def double_fork(options: argparse.Namespace) -> None:
    """Leave a daemon behind, re-parented away and in its own session, and end when told or at once."""
    noted, has_noted = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            note(options, "daemon")
            os.close(noted)
            os.close(has_noted)
            wait_for_ever()
        os._exit(0)
    os.close(has_noted)
    os.read(noted, 1)  # until nobody can write to it: whoever reads the notes now finds the daemon
    os.wait()
    note(options, "main")
    if not options.leave:
        wait_for_ever()


def bomb(options: argparse.Namespace) -> None:
    """Have processes that run away: each is replaced by its child every few milliseconds, for a while."""
    note(options, "main")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    give_up_s = time.monotonic() + options.seconds
    for _ in range(options.count):
        if os.fork() == 0:
            os.setsid()
            for _ in range(options.generations):
                if time.monotonic() > give_up_s or os.fork() != 0:
                    os._exit(0)
                time.sleep(0.02)
            os._exit(0)
    wait_for_ever()


def flood(options: argparse.Namespace) -> None:
    """Write lines to stdout as fast as it goes, up to a number of bytes, then wait."""
    note(options, "main")
    line = b"x" * 1023 + b"\n"
    block = line * 64
    written = 0
    while written < options.bytes:
        written += os.write(1, block)
        if options.rate:
            time.sleep(len(block) / options.rate)
    wait_for_ever()


def leave(options: argparse.Namespace) -> None:
    """End at once, with an exit code or by a signal."""
    note(options, "main")
    if options.signal:
        os.kill(os.getpid(), options.signal)
        wait_for_ever()
    sys.exit(options.code)


def allocate(options: argparse.Namespace) -> None:
    """Touch memory at a rate, in MiB/s, up to a limit; then wait. SIGTERM ends it unless told otherwise."""
    if options.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(options, "main")
    held: list[bytearray] = []
    step = max(1, min(16, options.rate // 100))
    began = time.monotonic()
    while len(held) * step < options.limit:
        held.append(bytearray(b"\1") * (step * MIB))
        ahead = len(held) * step / options.rate - (time.monotonic() - began)
        if ahead > 0:
            time.sleep(ahead)
    wait_for_ever()


def rename(options: argparse.Namespace) -> None:
    """Take a name that breaks careless readers of /proc/PID/stat."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, options.name.encode(), 0, 0, 0)
    note(options, "main")
    wait_for_ever()


def wipe(options: argparse.Namespace) -> None:
    """Have a child without any environment that left the session."""
    if os.fork() == 0:
        os.setsid()
        log = [] if options.log is None else ["--log", options.log]
        os.execve(sys.executable, [sys.executable, __file__, *log, "hang"], {})  # noqa: S606 - on purpose
    note(options, "main")
    wait_for_ever()


def send(message: str) -> None:
    """Send one message to the NOTIFY_SOCKET; that nobody is there ends no worker, as with any library."""
    nobody = contextlib.suppress(ConnectionRefusedError, FileNotFoundError)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client, nobody:
        client.sendto(message.encode(), os.environ["NOTIFY_SOCKET"])


def notify(options: argparse.Namespace) -> None:
    """Say READY=1 and then WATCHDOG=1 every so many seconds, a number of times."""
    note(options, "main")
    send("READY=1\nSTATUS=serving")
    for _ in range(options.beats):
        time.sleep(options.interval)
        send("WATCHDOG=1")
    wait_for_ever()


def notify_flood(options: argparse.Namespace) -> None:
    """Say WATCHDOG=1 without end."""
    note(options, "main")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.connect(os.environ["NOTIFY_SOCKET"])
        while True:
            client.send(b"WATCHDOG=1")


class Health(http.server.BaseHTTPRequestHandler):
    """Answer every GET with 200, or with 503 while the file `busy` is there."""

    disable_nagle_algorithm = True
    busy: Path | None = None

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(503 if self.busy is not None and self.busy.exists() else 200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the overridden
        """Be quiet."""


def serve(options: argparse.Namespace) -> None:
    """Serve /health on a port after a delay."""
    note(options, "main")
    time.sleep(options.delay)
    Health.busy = None if options.busy is None else Path(options.busy)
    http.server.ThreadingHTTPServer(("127.0.0.1", options.port), Health).serve_forever()


def report(options: argparse.Namespace) -> None:
    """Write what this process was given to a file, as JSON, and wait."""
    status = dict(
        line.split(":\t", 1)
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        if ":\t" in line
    )
    found = {
        "arguments": sys.argv,
        "environment": dict(os.environ),
        "directory": str(Path.cwd()),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": sorted(os.getgroups()),
        "session_leader": os.getsid(0) == os.getpid(),
        "umask": status["Umask"],
        "blocked": status["SigBlk"],
        "ignored": status["SigIgn"],
        "oom_score_adj": int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii")),
        "descriptors": {fd: _target(fd) for fd in map(str, range(64)) if _target(fd)},
    }
    part = Path(options.to + ".part")
    part.write_text(json.dumps(found), encoding="utf-8")
    part.rename(options.to)
    note(options, "main")
    wait_for_ever()


def _target(fd: str) -> str:
    try:
        return str(Path("/proc/self/fd", fd).readlink())
    except OSError:
        return ""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--log")
    parser.add_argument("--life", type=int, default=600, help="seconds after which each process ends itself")
    modes = parser.add_subparsers(dest="mode", required=True)

    def mode(name: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        added = modes.add_parser(name)
        added.set_defaults(run=run)
        return added

    mode("sleeper", sleeper)
    mode("hang", hang)
    mode("ignore-term", ignore_term)
    mode("again", again)
    mode("grandchild", grandchild)
    mode("double-fork", double_fork).add_argument("--leave", action="store_true")
    bombing = mode("bomb", bomb)
    bombing.add_argument("--count", type=int, default=8)
    bombing.add_argument("--seconds", type=float, default=10.0)
    bombing.add_argument("--generations", type=int, default=300)  # a table of processes is soon full
    flooding = mode("flood", flood)
    flooding.add_argument("--bytes", type=int, default=64 << 20)  # a disk is soon full
    flooding.add_argument("--rate", type=int, default=0)
    leaving = mode("exit", leave)
    leaving.add_argument("--code", type=int, default=0)
    leaving.add_argument("--signal", type=int, default=0)
    allocating = mode("allocate", allocate)
    allocating.add_argument("--rate", type=int, default=1000)
    allocating.add_argument("--limit", type=int, default=1000)
    allocating.add_argument("--ignore-term", action="store_true")
    leaking = mode("leak", allocate)
    leaking.add_argument("--rate", type=int, default=1)
    leaking.add_argument("--limit", type=int, default=1000)
    leaking.add_argument("--ignore-term", action="store_true")
    mode("rename", rename).add_argument("--name", default=") R 1 (")
    mode("wipe", wipe)
    notifying = mode("notify", notify)
    notifying.add_argument("--interval", type=float, default=1.0)
    notifying.add_argument("--beats", type=int, default=1 << 30)
    mode("notify-flood", notify_flood)
    serving = mode("serve", serve)
    serving.add_argument("--port", type=int, required=True)
    serving.add_argument("--delay", type=float, default=0.0)
    serving.add_argument("--busy")
    mode("report", report).add_argument("--to", required=True)
    return parser.parse_args()


def main() -> None:
    """Run the mode that was named."""
    options = _arguments()
    options.run(options)


if __name__ == "__main__":
    main()
