"""Hostile little processes for tests, and their sure end."""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
PATIENCE_S: Final = 20.0
PR_SET_CHILD_SUBREAPER: Final = 36

# Each program ends by itself after a minute, so that nothing stays behind whatever happens to the tests.
PRELUDE: Final = """
import ctypes, mmap, os, signal, sys, threading, time
signal.alarm(60)
libc = ctypes.CDLL(None, use_errno=True)

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def fork(child):
    pid = os.fork()
    if pid:
        return pid
    signal.alarm(60)
    child()
    os._exit(0)

def rest():
    while True:
        time.sleep(60)
"""


def eventually(holds: Callable[[], bool]) -> bool:
    """Ask again and again until it holds; False once patience is at an end."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.005)
    return True


def kill(pid: int) -> None:
    """Send SIGKILL through a pidfd; without effect where it is gone."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    finally:
        os.close(fd)


def open_files() -> int:
    """Count the descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def gone(pid: int) -> bool:
    """Tell whether a process has ended, reaping it where it is ours."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        state = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


class Child:
    """One running program, which says lines on its standard output."""

    def __init__(self, program: str, run: str, environment: Mapping[str, str]) -> None:
        self.run = run
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", PRELUDE + program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "GPU_SUPERVISOR_RUN": run, **environment},
            start_new_session=True,
        )
        self.pid = self.process.pid
        self._heard = b""

    def hear(self) -> list[str]:
        """Return the words of the next line that it says; fails where it stays silent."""
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        deadline_s = time.monotonic() + PATIENCE_S
        while b"\n" not in self._heard:
            ready, _, _ = select.select([fd], [], [], max(0.0, deadline_s - time.monotonic()))
            assert ready, "the program said nothing"
            part = os.read(fd, 4096)
            assert part, "the program ended without a word"
            self._heard += part
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode().split()

    def tell(self) -> None:
        """Let it go on where it waits in `sys.stdin.readline()`."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()


class Nursery:
    """Spawns programs, and ends with all of them and their descendants gone."""

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._pids: set[int] = set()

    def spawn(self, program: str, **environment: str) -> Child:
        """Start a program in its own session, marked with a run id of its own."""
        child = Child(program, f"test-{uuid.uuid4()}", environment)
        self._children.append(child)
        return child

    def owe(self, pid: int) -> int:
        """Note a process to be ended that carries no mark any more."""
        self._pids.add(pid)
        return pid

    def marked(self) -> set[int]:
        """Find every process that carries the mark of one of the programs."""
        marks = [f"GPU_SUPERVISOR_RUN={child.run}".encode() for child in self._children]
        found: set[int] = set()
        for entry in PROC.iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    environ = (entry / "environ").read_bytes().split(b"\0")
                    if any(mark in environ for mark in marks):
                        found.add(int(entry.name))
        return found

    def close(self) -> None:
        """End everything, and see that it is gone."""
        left = {child.pid for child in self._children} | self._pids
        while left:
            for pid in left:
                kill(pid)
            assert eventually(lambda: all([gone(pid) for pid in left]))  # noqa: B023, C419 - reaps each
            left = self.marked()
        for child in self._children:
            for stream in (child.process.stdin, child.process.stdout):
                if stream is not None:
                    stream.close()
            child.process.wait()


@contextmanager
def nursery() -> Generator[Nursery, None, None]:
    """Run programs as a subreaper, so that orphans come to us and none stays behind."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    place = Nursery()
    try:
        yield place
    finally:
        place.close()
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def write_process(proc: Path, pid: int, *, ppid: int = 1, start: int = 100, **more: str) -> None:
    """Write one process into a tree like /proc; `more`: comm, state, session, environ, rss_kib."""
    here = proc / str(pid)
    here.mkdir(parents=True, exist_ok=True)
    session, comm, state = more.get("session", "1"), more.get("comm", "worker"), more.get("state", "S")
    zeros = " ".join("0" * 10)
    (here / "stat").write_text(
        f"{pid} ({comm}) {state} {ppid} {session} {session} 0 -1 4194304 {zeros} 1 0 {start} 0 0\n"
    )
    (here / "environ").write_bytes(more.get("environ", "HOME=/root").encode() + b"\0")
    (here / "status").write_text(
        f"Name:\t{comm}\nState:\t{state}\nRssAnon:\t{more.get('rss_kib', '100')} kB\nRssFile:\t300 kB\n"
        f"RssShmem:\t7 kB\nVmData:\t1 kB\nVmSwap:\t3 kB\nThreads:\t1\n"
    )
