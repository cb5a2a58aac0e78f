import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.cli.log_file import LogFile
from support.command_line import environment, gpu_supervisor
from support.control_desk import StoryDesk


@pytest.fixture
def log(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "chat.log"
    path.write_text("".join(f"line {number}\n" for number in range(1, 101)))
    if "desk" in request.fixturenames:
        desk: StoryDesk = request.getfixturevalue("desk")
        desk.logs["chat"] = str(path)
    return path


def rotate(path: Path) -> None:
    """Shorten a log as the daemon does: its content becomes the predecessor, then it is truncated."""
    fresh = path.with_name("fresh")
    fresh.write_bytes(path.read_bytes())
    fresh.replace(path.with_name(path.name + ".1"))
    os.truncate(path, 0)


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_the_last_lines_are_shown(control: Path, desk: StoryDesk, log: Path) -> None:
    del desk, log
    assert gpu_supervisor("logs", "chat", "-n", "2", control=control).out == "line 99\nline 100\n"
    assert len(gpu_supervisor("logs", "chat", control=control).out.splitlines()) == 50
    assert gpu_supervisor("logs", "chat", "-n", "0", control=control).out == ""


def test_older_lines_come_from_the_predecessor(control: Path, desk: StoryDesk, log: Path) -> None:
    del desk
    rotate(log)
    append(log, "new 1\nnew 2\n")
    ran = gpu_supervisor("logs", "chat", "-n", "4", control=control)
    assert ran.out == "line 99\nline 100\nnew 1\nnew 2\n"


def test_a_worker_that_printed_nothing_yet_is_said_so(control: Path, desk: StoryDesk, tmp_path: Path) -> None:
    desk.logs["chat"] = str(tmp_path / "none.log")
    ran = gpu_supervisor("logs", "chat", control=control)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        f"gpu-supervisor: cannot show logs of chat: it has printed nothing yet ({tmp_path}/none.log)\n"
    )


def test_an_unknown_worker_is_4(control: Path, desk: StoryDesk) -> None:
    del desk
    ran = gpu_supervisor("logs", "nobody", control=control)
    assert (ran.code, ran.err) == (
        4,
        "gpu-supervisor: cannot show logs of nobody: no worker is called 'nobody'\n",
    )


def test_a_dead_daemons_logs_can_still_be_read(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "chat.log").write_text("last words\n")
    env = {"LOGS_DIRECTORY": str(logs), "GPU_SUPERVISOR_CONTROL": str(tmp_path / "none")}
    ran = gpu_supervisor("logs", "chat", env=env)
    assert (ran.code, ran.out) == (0, "last words\n")
    assert ran.err == "gpu-supervisor: the daemon is not running; this is from its last run\n"
    assert gpu_supervisor("logs", "../logs/chat", env=env).code == 3


@pytest.mark.parametrize("count", ["-1", "x", "1.5"])
def test_a_wrong_number_of_lines_is_2(control: Path, count: str) -> None:
    assert gpu_supervisor("logs", "chat", f"-n={count}", control=control).code == 2


def test_following_shows_each_line_once_through_rotation(
    control: Path, desk: StoryDesk, log: Path, tmp_path: Path
) -> None:
    del desk
    output = tmp_path / "output"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.cli.main", "logs", "chat", "-f", "-n", "1"],
            env=environment(GPU_SUPERVISOR_CONTROL=str(control)),
            stdout=sink,
        )
    try:
        await_text(output, "line 100\n")
        append(log, "one\n")
        await_text(output, "line 100\none\n")
        append(log, "two\n")
        rotate(log)
        append(log, "three\n")
        await_text(output, "line 100\none\ntwo\nthree\n")
    finally:
        process.send_signal(2)
        assert process.wait(10) == 130


def await_text(path: Path, expected: str) -> None:
    deadline = time.monotonic() + 20
    while path.read_text() != expected and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.read_text() == expected


def test_what_was_written_before_a_rotation_is_not_lost(log: Path) -> None:
    with LogFile(log) as followed:
        followed.last(1)
        append(log, "unread\n")
        rotate(log)
        append(log, "after\n")
        assert until(followed.more) == b"unread\nafter\n"
        assert followed.more() == b""


def test_a_rotation_is_noticed_even_when_the_new_file_is_already_larger(log: Path) -> None:
    with LogFile(log) as followed:
        followed.last(1)
        rotate(log)
        append(log, "x" * 5000)
        assert until(followed.more) == b"x" * 5000


def test_a_file_that_is_replaced_is_followed_by_its_name(log: Path) -> None:
    with LogFile(log) as followed:
        followed.last(1)
        append(log, "old\n")
        log.rename(log.with_name("elsewhere"))
        log.write_text("new\n")
        assert until(followed.more) == b"old\nnew\n"


def test_lines_without_an_end_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first\nsecond")
    with LogFile(path) as followed:
        assert followed.last(1) == b"second"
        append(path, " half\n")
        assert followed.more() == b" half\n"


def test_a_large_file_is_read_from_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"%d %s\n" % (number, b"x" * 1000) for number in range(1000)))
    with LogFile(path) as followed:
        lines = followed.last(200).splitlines()
    assert [line.split()[0] for line in lines] == [b"%d" % number for number in range(800, 1000)]


def until(more: Callable[[], bytes]) -> bytes:
    """Collect what two looks in a row have to say."""
    return more() + more()
