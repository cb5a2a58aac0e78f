"""The helper by itself, spoken to over its pipes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from supervisor.sense.gpu.reading import host_facts, united
from support.fakenvml.state import GIB, Call, FakeDriver
from support.gpu_fixtures import Watched, children, watch

COMMAND = (sys.executable, "-m", "supervisor.sense.gpu.helper")


@contextmanager
def helper(driver: FakeDriver, *arguments: str) -> Generator[subprocess.Popen[bytes]]:
    environment = {**os.environ, **driver.environment}
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, *arguments], stdin=pipe, stdout=pipe, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def ask(process: subprocess.Popen[bytes], **request: object) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps({"round": 1, "skip": [], "last": [], **request}).encode() + b"\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[bytes]) -> Any:  # noqa: ANN401 - it is JSON
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def wait_until(true: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def fake_proc(folder: Path, namespace: str = "pid:[4026531836]", total_kib: int = 1000) -> Path:
    (folder / "self/ns").mkdir(parents=True)
    (folder / "self/ns/pid").symlink_to(namespace)
    (folder / "sys/kernel").mkdir(parents=True)
    (folder / "sys/kernel/pid_max").write_text("32768\n")
    (folder / "meminfo").write_text(f"MemTotal:     {total_kib} kB\nMemFree:     1 kB\n")
    return folder


def test_each_gpu_is_told_as_soon_as_it_is_read(driver: FakeDriver) -> None:
    driver.gpu(1).hang(Call.MEMORY_V2)
    with helper(driver) as process:
        ask(process)
        assert hear(process) == {"ready": True}
        assert hear(process) == {"round": 1, "order": [0, 1]}
        assert hear(process)["gpu"]["uuid"] == "GPU-0"


def test_a_gpu_can_be_left_out_or_read_after_all_others(fakenvml: Path, tmp_path: Path) -> None:
    driver = FakeDriver(fakenvml, tmp_path / "state", gpus=4)
    with helper(driver) as process:
        ask(process, skip=[2], last=[0])
        heard = [hear(process) for _ in range(6)]
        assert heard[1] == {"round": 1, "order": [1, 3, 0]}
        assert [line["gpu"]["index"] for line in heard[2:5]] == [1, 3, 0]
        assert heard[5] == {"round": 1, "end": True}
    assert driver.gpu(2).name == b"Fake GPU"


def test_the_helper_ends_when_its_stdin_closes(driver: FakeDriver) -> None:
    with helper(driver) as process:
        assert hear(process) == {"ready": True}
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


def test_the_helper_ends_with_the_daemon_even_while_the_driver_hangs(driver: FakeDriver) -> None:
    driver.hang(Call.COUNT, 0)
    starter = (
        "import os, subprocess, sys; "
        "child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE); "
        'child.stdout.readline(); child.stdin.write(b\'{"round": 1, "skip": [], "last": []}\\n\'); '
        "child.stdin.flush(); print(child.pid, flush=True); sys.stdin.read()"
    )
    daemon = subprocess.Popen(
        [sys.executable, "-c", starter, *COMMAND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **driver.environment, "PYTHONUNBUFFERED": "1"},
    )
    driver.gpu(0).hang(Call.MEMORY_V2)
    assert daemon.stdout is not None
    pid = int(daemon.stdout.readline())
    wait_until(lambda: driver.calls(Call.MEMORY_V2) == 1)  # it hangs now
    pidfd = os.pidfd_open(pid)
    daemon.send_signal(signal.SIGKILL)
    daemon.communicate()
    wait_until(lambda: not alive(pid))
    os.close(pidfd)


def environ(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_the_driver_prints_never_gets_between_the_answers(driver: FakeDriver) -> None:
    code = "import os, sys; from supervisor.sense.gpu.helper import main; main([]); os.write(1, b'noise')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=b"",
        env={**os.environ, **driver.environment},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b'{"ready":true}\n'
    assert done.stderr == b"noise"


def test_the_helper_does_not_carry_the_mark_of_a_worker(driver: FakeDriver) -> None:
    async def marked(watched: Watched) -> None:
        await watched.until(watched.known)
        (pid,) = children()
        environment = environ(pid)
        assert environment
        assert not [entry for entry in environment if entry.startswith(b"GPU_SUPERVISOR_RUN=")]

    watch({**driver.environment, "GPU_SUPERVISOR_RUN": "chat-1"}, marked)


def test_an_interrupt_from_the_terminal_does_not_reach_the_helper(driver: FakeDriver) -> None:
    async def grouped(watched: Watched) -> None:
        await watched.until(watched.known)
        (pid,) = children()
        assert os.getpgid(pid) == pid

    watch(driver.environment, grouped)


def test_in_another_pid_namespace_the_process_lists_are_missing(driver: FakeDriver, tmp_path: Path) -> None:
    driver.gpu(0).run((10, GIB))
    proc = fake_proc(tmp_path / "proc", namespace="pid:[4026532177]")
    with helper(driver, str(proc)) as process:
        ask(process)
        gpu = [hear(process) for _ in range(3)][2]["gpu"]
    assert gpu["processes"] == "the driver names pids of the host, and this is another PID namespace"
    assert gpu["memory_used_bytes"] == 17179869184


def test_a_namespace_that_cannot_be_told_counts_as_another(tmp_path: Path) -> None:
    proc = fake_proc(tmp_path / "proc")
    (proc / "self/ns/pid").unlink()
    why = "cannot tell whether the driver's pids are ours: No such file or directory"
    assert host_facts(proc).pids_fault == why


@pytest.mark.parametrize(
    ("total_kib", "unified"),
    [
        (80 * 2**20, True),
        (80 * 2**20 * 1004 // 1000, True),
        (80 * 2**20 * 985 // 1000, False),
        (2**20, False),
    ],
)
def test_as_much_memory_as_the_machine_has_means_unified(
    driver: FakeDriver, tmp_path: Path, total_kib: int, *, unified: bool
) -> None:
    proc = fake_proc(tmp_path / "proc", total_kib=total_kib)
    with helper(driver, str(proc)) as process:
        ask(process)
        gpu = [hear(process) for _ in range(3)][2]["gpu"]
    assert gpu["unified"] is unified


def test_lists_are_united_by_pid() -> None:
    assert united([[(5, 10), (6, 0)], [(5, 30)], [(5, 20), (6, 2**64 - 1)]], 32768) == [
        (5, 30),
        (6, "the driver does not tell its memory"),
    ]
    assert united([[], [], []], 32768) == []
    assert united([[(32768, 1)]], 32768) == [(32768, 1)]
    assert united([[(1, 1)], [(32769, 1)]], 32768) == (
        "the driver's process list is distrusted: it names pid 32769"
    )
