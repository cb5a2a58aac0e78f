#!/usr/bin/env python3
"""Carry out, inside the machine, what the tests ask through a virtio port. Runs on the machine's own Python.

Each line of the port is one JSON document; what is no document is passed over, so that both sides find their
way again after a line that was cut short. Asked: `{"id", "argv", "stdin", "timeout_s"}`; an empty argv asks
for a sign of life. Told: any number of `{"id", "out" | "err": base64}`, then
`{"id", "rc", "ended", "boot"}`, where `ended` says who ended the command: null (itself), "timeout" or
"flood".

The agent itself is out of reach of the emergencies that the tests make: never the kernel's victim, its memory
locked, its own cgroup protected. What it runs is not: every command has a cgroup of its own, and the score of
any other program.
"""

import base64
import contextlib
import ctypes
import itertools
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

PORT = "/dev/virtio-ports/agent"
CHUNK_BYTES = 256 * 1024
FLOOD_BYTES = 64 * 1024 * 1024  # what one command may print; the disk has room for it
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "USER": "root",
    "LOGNAME": "root",
}
MCL_CURRENT, MCL_FUTURE = 1, 2
PROTECTED_BYTES = 48 * 1024 * 1024  # some 15 MB are used

Document = dict[str, Any]


def main() -> None:
    """Serve the port until the machine goes down."""
    commands = _settle()
    _lock_memory()
    while not os.path.exists(PORT):  # noqa: PTH110 - udev names it when the driver is loaded
        time.sleep(0.05)
    port = os.open(PORT, os.O_RDWR | os.O_CLOEXEC)
    say(port, {"hello": boot_id()})
    numbers = itertools.count(1)
    for asked in documents(port):
        rc, ended = 0, None
        if asked["argv"]:
            group = commands / f"{os.getpid()}-{next(numbers)}"
            rc, ended = carry_out(port, asked, group)
        say(port, {"id": asked["id"], "rc": rc, "ended": ended, "boot": boot_id()})


def boot_id() -> str:
    """Return what differs after each boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def documents(port: int) -> Iterator[Document]:
    """Yield what is asked; passes over whatever is no whole document."""
    pieces: list[bytes] = []
    while True:
        found = os.read(port, CHUNK_BYTES)
        if not found:  # nobody at the other end
            time.sleep(0.1)
            continue
        *lines, rest = found.split(b"\n")
        for line in lines:
            whole = b"".join((*pieces, line))
            pieces = []
            with contextlib.suppress(ValueError, KeyError, TypeError):
                asked = json.loads(whole)
                yield {key: asked[key] for key in ("id", "argv", "stdin", "timeout_s")}
        pieces.append(rest)


def say(port: int, document: Document) -> None:
    """Write one line; begins with an end of line, in case one was cut short."""
    rest = memoryview(b"\n" + json.dumps(document).encode() + b"\n")
    while rest:
        rest = rest[os.write(port, rest) :]


def carry_out(port: int, asked: Document, group: Path) -> tuple[int, str | None]:
    """Run one command and tell its output; processes that it leaves behind live on, and hold nothing up."""
    with (
        tempfile.TemporaryFile(dir="/var/tmp") as given,  # /tmp may be memory
        tempfile.TemporaryFile(dir="/var/tmp") as out,
        tempfile.TemporaryFile(dir="/var/tmp") as err,
    ):
        given.write(base64.b64decode(asked["stdin"]))
        given.seek(0)
        group.mkdir()
        try:
            child = subprocess.Popen(
                asked["argv"],
                stdin=given,
                stdout=out,
                stderr=err,
                cwd="/",
                env=ENVIRONMENT,
                start_new_session=True,
                preexec_fn=lambda: _become_ordinary(group),  # noqa: PLW1509 - there is one thread
            )
        except OSError as error:
            rc, ended = 127, None
            err.write(f"{asked['argv'][0]}: {error.strerror}\n".encode())
        else:
            rc, ended = wait(child, (out, err), asked["timeout_s"], group)
        with contextlib.suppress(OSError):  # not empty: it has left something running
            group.rmdir()
        tell(port, asked["id"], "out", out)
        tell(port, asked["id"], "err", err)
    return rc, ended


def wait(
    child: "subprocess.Popen[bytes]", outputs: tuple[IO[bytes], ...], timeout_s: float, group: Path
) -> tuple[int, str | None]:
    """Wait for the command's own end, or end it and all that it started."""
    deadline_s = time.monotonic() + timeout_s
    pidfd = os.pidfd_open(child.pid)
    ended = None
    try:
        while ended is None and not select.select([pidfd], [], [], 0.5)[0]:
            if time.monotonic() > deadline_s:
                ended = "timeout"
            elif sum(os.fstat(output.fileno()).st_size for output in outputs) > FLOOD_BYTES:
                ended = "flood"
    finally:
        os.close(pidfd)
    if ended is not None:
        (group / "cgroup.kill").write_text("1")
        if child.poll() is None:  # it has left its cgroup
            child.kill()
    return child.wait(), ended


def tell(port: int, number: int, name: str, output: IO[bytes]) -> None:
    """Tell what a command has printed, its beginning where it is too much."""
    output.seek(0)
    left = FLOOD_BYTES
    while left and (piece := output.read(min(CHUNK_BYTES, left))):
        left -= len(piece)
        say(port, {"id": number, name: base64.b64encode(piece).decode()})


def _settle() -> Path:
    """Divide the unit's cgroup: a protected one for the agent, one for the commands. Return the latter."""
    inside = Path("/proc/self/cgroup").read_text().strip().rpartition(":")[2]
    unit = Path("/sys/fs/cgroup") / inside.lstrip("/")
    own, commands = unit / "agent", unit / "commands"
    own.mkdir(exist_ok=True)
    commands.mkdir(exist_ok=True)
    (own / "cgroup.procs").write_text(str(os.getpid()))
    (unit / "cgroup.subtree_control").write_text("+memory +cpu")
    (own / "memory.min").write_text(str(PROTECTED_BYTES))
    (own / "cpu.weight").write_text("1000")
    return commands


def _lock_memory() -> None:
    """Keep every page of this process: a kernel that is short of memory drops those of programs first."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(MCL_CURRENT | MCL_FUTURE) != 0:
        sys.exit(f"cannot lock memory: {os.strerror(ctypes.get_errno())}")


def _become_ordinary(group: Path) -> None:
    """Leave the agent's protection behind, in a child that is about to become a command."""
    (group / "cgroup.procs").write_text(str(os.getpid()))
    Path("/proc/self/oom_score_adj").write_text("0")


if __name__ == "__main__":
    main()
