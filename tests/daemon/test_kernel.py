"""The daemon hears the kernel's log: a pipe stands in for it, and a library for the NVIDIA driver."""

import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.daemon import Document, hostile
from support.fakenvml.state import FakeDriver
from support.watching import WatchedDaemon

SLEEPER = hostile("sleeper")
FALLEN = "NVRM: Xid (PCI:0000:01:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


class Kmsg:
    """The writing end of what the daemon takes for /dev/kmsg."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._descriptor = os.open(path, os.O_RDWR)
        self.seq = 0

    def say(self, *lines: str, age_s: float = 0.0) -> None:
        for line in lines:
            self.seq += 1
            stamp = int((time.clock_gettime(time.CLOCK_MONOTONIC_RAW) - age_s) * 1e6)
            os.write(self._descriptor, f"3,{self.seq},{stamp},-;{line}\n".encode())  # waits for room

    def close(self) -> None:
        os.close(self._descriptor)


@pytest.fixture
def kmsg(tmp_path: Path) -> Iterator[Kmsg]:
    made = Kmsg(tmp_path / "kmsg")
    yield made
    made.close()


@pytest.fixture
def daemon(tmp_path: Path, driver: FakeDriver, kmsg: Kmsg) -> Iterator[WatchedDaemon]:
    del kmsg
    environment = {**driver.environment, "GPU_SUPERVISOR_KERNEL_LOG": str(tmp_path / "kmsg")}
    made = WatchedDaemon(tmp_path, environment)
    yield made
    made.close()


def until_gpus(daemon: WatchedDaemon) -> None:
    daemon.until(lambda: bool(daemon.status()["gpus"]), "GPUs are seen")


def until_xids(daemon: WatchedDaemon, count: int, index: int = 0) -> Document:
    until_gpus(daemon)
    daemon.until(lambda: daemon.gpu(index)["xids"] == count, f"GPU {index} has had {count} Xids")
    return daemon.gpu(index)


def until_told(daemon: WatchedDaemon, event: str) -> Document:
    daemon.until(lambda: bool(daemon.told(event)), f"{event} is told")
    return daemon.told(event)[-1]


def test_a_gpu_that_falls_off_the_bus_is_quarantined_and_the_next_daemon_knows(
    daemon: WatchedDaemon, kmsg: Kmsg
) -> None:
    daemon.begin(f"  chat: {{command: {SLEEPER}, gpus: [0]}}\n")
    first = daemon.until_phase("chat", "ready")
    kmsg.say("e1000e: eth0 NIC Link is Up", FALLEN, "NVRM: GPU 0000:01:00.0: GPU has fallen off the bus.")
    gpu = until_xids(daemon, 1)
    assert gpu["quarantine"].startswith("Xid 79 (fallen off the bus): GPU has fallen off the bus.")
    assert (gpu["last_xid"]["code"], gpu["last_xid"]["text"]) == (79, "GPU has fallen off the bus.")
    assert daemon.gpu(1)["quarantine"] is None
    assert daemon.worker("chat")["pid"] == first["pid"]
    history = daemon.run("history")
    assert "gpu-fault" in history.stdout
    assert "Xid 79 (fallen off the bus)" in history.stdout

    daemon.kill()
    daemon.start()
    until_gpus(daemon)
    again = daemon.gpu(0)
    assert again["xids"] == 1
    assert (again["quarantine"], again["last_xid"]) == (gpu["quarantine"], gpu["last_xid"])
    assert daemon.run("reset", "chat").returncode == 0
    assert daemon.gpu(0)["quarantine"] is None
    assert "throttled" not in daemon.run("status").stdout


def test_what_was_said_while_there_was_no_daemon_is_heard_and_older_things_are_not(
    daemon: WatchedDaemon, kmsg: Kmsg
) -> None:
    kmsg.say("NVRM: Xid (PCI:0000:02:00): 48, DBE", age_s=300.0)
    kmsg.say("NVRM: Xid (PCI:0000:02:00): 13, Graphics Exception", age_s=5.0)
    daemon.begin("  chat: {command: sleep 4321}\n")
    gpu = until_xids(daemon, 1, 1)
    assert (gpu["last_xid"]["code"], gpu["quarantine"]) == (13, None)


def test_a_worker_that_ends_after_an_xid_of_its_process_ends_of_a_gpu_fault(
    daemon: WatchedDaemon, kmsg: Kmsg
) -> None:
    script = "import os, signal; signal.signal(signal.SIGUSR1, lambda *_: os._exit(3)); signal.pause()"
    daemon.begin(f"  chat: {{command: [python3, -S, -c, '{script}'], gpus: [0], ready: {{after: 500ms}}}}\n")
    pid = daemon.until_phase("chat", "ready")["pid"]
    kmsg.say(f"NVRM: Xid (PCI:0000:01:00): 31, pid={pid}, name=python3, Ch 0000000a, MMU Fault")
    os.kill(pid, signal.SIGUSR1)
    told = until_told(daemon, "worker exited")
    assert told["cause"] == "gpu-fault"
    assert "exited with status 3 after " in told["reason"]
    assert told["reason"].endswith(
        "the kernel's log has Xid 31 (page fault in its memory): Ch 0000000a, MMU Fault"
    )
    assert daemon.gpu(0)["quarantine"] is None


def test_a_worker_that_the_kernel_kills_for_want_of_memory_is_told_as_that(
    daemon: WatchedDaemon, kmsg: Kmsg
) -> None:
    daemon.begin(f"  chat: {{command: {SLEEPER}}}\n")
    pid = daemon.until_phase("chat", "ready")["pid"]
    kmsg.say(
        "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
        f"task_memcg=/user.slice,task=python3,pid={pid},uid=0",
        f"Out of memory: Killed process {pid} (python3) total-vm:9000kB, anon-rss:8192kB, file-rss:0kB,"
        " shmem-rss:0kB, UID:0 pgtables:40kB oom_score_adj:0",
    )
    os.kill(pid, signal.SIGKILL)
    told = until_told(daemon, "worker exited")
    assert told["cause"] == "host-oom-kill"
    assert told["reason"].startswith(
        f"killed by the kernel's OOM killer (pid {pid} (python3) killed for want of memory of the machine;"
        " it held anon 8MiB, file 0B, shmem 0B) after "
    )
    assert daemon.until_phase("chat", "ready")["oom_events"] == 1


def test_a_kill_of_somebody_else_says_nothing_of_a_worker(daemon: WatchedDaemon, kmsg: Kmsg) -> None:
    daemon.begin(f"  chat: {{command: {SLEEPER}}}\n")
    pid = daemon.until_phase("chat", "ready")["pid"]
    kmsg.say(f"Out of memory: Killed process {os.getpid()} (x) total-vm:1kB, anon-rss:1kB, file-rss:0kB")
    os.kill(pid, signal.SIGKILL)
    assert until_told(daemon, "worker exited")["cause"] == "crash"


def test_a_storm_of_xids_and_of_other_lines_changes_nothing_for_the_workers(
    daemon: WatchedDaemon, kmsg: Kmsg
) -> None:
    daemon.begin(f"  chat: {{command: {SLEEPER}, gpus: [0]}}\n")
    pid = daemon.until_phase("chat", "ready")["pid"]
    for _ in range(50):
        kmsg.say(*["NVRM: Xid (PCI:0000:01:00): 69, Class Error", "x" * 900] * 20)
    assert until_xids(daemon, 1000)["quarantine"] is None
    assert len(daemon.told("gpu xid")) == 1
    assert daemon.worker("chat")["pid"] == pid
    assert daemon.worker("chat")["phase"] == "ready"


def test_where_there_is_no_kernel_log_that_is_told_once_and_all_else_works(
    tmp_path: Path, driver: FakeDriver
) -> None:
    environment = {**driver.environment, "GPU_SUPERVISOR_KERNEL_LOG": str(tmp_path / "none")}
    daemon = WatchedDaemon(tmp_path, environment)
    try:
        daemon.begin(f"  chat: {{command: {SLEEPER}, gpus: [0]}}\n")
        daemon.until_phase("chat", "ready")
        [told] = daemon.told("no kernel log")
        assert (told["level"], told["reason"]) == (
            "info",
            (
                f"cannot read {tmp_path}/none: No such file or directory:"
                " Xids and kills by the kernel are known as far as others tell of them"
            ),
        )
        gpu = daemon.gpu(0)
        assert (gpu["xids"], gpu["quarantine"]) == (None, None)  # none is known, and nothing is quarantined
        assert gpu["missing"]["xids"] == f"cannot read {tmp_path}/none: No such file or directory"
    finally:
        daemon.close()


@pytest.mark.slow
def test_an_xid_of_a_gpu_that_the_driver_does_not_list_is_told_once_it_is_clear_that_it_does_not(
    daemon: WatchedDaemon, kmsg: Kmsg
) -> None:
    daemon.begin("  chat: {command: sleep 4321}\n")
    until_gpus(daemon)
    kmsg.say("NVRM: Xid (PCI:0000:99:00): 79, GPU has fallen off the bus.")
    told = until_told(daemon, "gpu xid")
    assert (told["gpu"], told["level"]) == ("0000:99:00", "error")
    assert [gpu["quarantine"] for gpu in daemon.status()["gpus"]] == [None, None]
    assert "no GPU is known at that address" in daemon.run("history").stdout


def test_throttling_is_shown(daemon: WatchedDaemon, driver: FakeDriver) -> None:
    driver.gpu(0).throttle = 0x8 | 0x40
    daemon.begin("  chat: {command: sleep 4321}\n")
    until_gpus(daemon)
    assert daemon.gpu(0)["throttle"] == ["hw-slowdown", "hw-thermal"]
    assert daemon.gpu(1)["throttle"] == []
    assert "throttled: hw-slowdown, hw-thermal" in daemon.run("status").stdout


@pytest.fixture
def box(require: Callable[[object, str], None]) -> Iterator[Path]:
    """A memory cgroup of 48 MiB: what takes more in it is killed, by the real kernel."""
    root, limit = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"  # cgroup v1
    if not root.exists():
        root, limit = Path("/sys/fs/cgroup"), "memory.max"
    made = root / f"kernel-log-test-{os.getpid()}"
    with contextlib.suppress(OSError):
        made.mkdir()
        (made / limit).write_text(str(48 << 20), encoding="utf-8")
    readable = os.access("/dev/kmsg", os.R_OK)
    require((made / limit).exists() and readable, "no memory cgroup can be made, or no kernel log be read")
    yield made
    deadline_s = time.monotonic() + 10.0
    while made.exists() and time.monotonic() < deadline_s:
        with contextlib.suppress(OSError):  # what was killed in it is not gone yet
            made.rmdir()


HUNGRY = """
import sys, time
held = []
while True:
    time.sleep(0.02)
    held.append(bytearray(1 << 20))
"""


@pytest.mark.parametrize("child", [False, True], ids=["itself", "a child of it"])
def test_the_real_kernel_is_believed_about_whom_it_has_killed(
    tmp_path: Path,
    box: Path,
    child: bool,  # noqa: FBT001
) -> None:
    (tmp_path / "hungry.py").write_text(HUNGRY, encoding="utf-8")
    enter = f"echo $$ >{box}/cgroup.procs; exec {sys.executable} -S {tmp_path}/hungry.py"
    script = f"sh -c '{enter}'; exit 1" if child else enter
    daemon = WatchedDaemon(tmp_path)
    try:
        daemon.begin(f"  chat: {{command: {json.dumps(['/bin/sh', '-c', script])}}}\n")
        ended = until_told(daemon, "worker exited")
        assert ended["cause"] == "host-oom-kill", ended
        said = (
            r"killed by the kernel's OOM killer \(pid \d+ \([\w.]+\) killed for want of memory of the cgroup"
            r" /kernel-log-test-\d+; it held anon 4\d(\.\d+)?MiB, file [^,]+, shmem 0B\) after "
        )
        assert re.match(said, ended["reason"]), ended["reason"]
    finally:
        daemon.close()
