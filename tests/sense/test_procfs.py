import errno
import os
import resource
from pathlib import Path

import pytest

from supervisor.sense.procfs import Shelf, boot_id, environ_value, list_pids, parse_stat, read_stat
from support.procs import PROC, eventually, gone, kill, nursery, open_files, write_process

LINE = b"4711 (%b) S 12 34 56 0 -1 4194560 9 8 7 6 5 4 3 2 20 0 3 0 987654 1 2 3\n"
IMPOSTOR = "libc.prctl(15, b') R 1 (', 0, 0, 0)\nsay('named')\nrest()"
HEADLESS = """
threading.Thread(target=rest).start()
say("ready")
libc.syscall(60, 0)   # ends the main thread only
"""


@pytest.mark.parametrize("comm", ["sleep", "a b", "a)", ") R 1 (", "((", "))) 1 2 3", "", "tab\tline\n2"])
def test_a_name_cannot_pose_as_other_fields(comm: str) -> None:
    stat = parse_stat(LINE % comm.encode())
    assert stat is not None
    assert (stat.pid, stat.comm, stat.state, stat.ppid) == (4711, comm, "S", 12)
    assert (stat.pgrp, stat.session, stat.start_ticks, stat.threads) == (34, 56, 987654, 3)


def test_a_real_process_that_names_itself_like_fields_is_read_right() -> None:
    with nursery() as place:
        child = place.spawn(IMPOSTOR)
        assert child.hear() == ["named"]
        stat = read_stat(PROC, child.pid)
        assert stat is not None
        assert (stat.comm, stat.ppid, stat.session) == (") R 1 (", os.getpid(), child.pid)


@pytest.mark.parametrize("data", [b"", b"4711", b"4711 (x) S 1 2", b"no (x) S" + b" 1" * 30])
def test_a_line_cut_short_is_no_process(data: bytes) -> None:
    assert parse_stat(data) is None


def test_a_vanished_process_is_none() -> None:
    with nursery() as place:
        child = place.spawn("rest()")
        kill(child.pid)
        child.process.wait()
        assert read_stat(PROC, child.pid) is None
        assert environ_value(PROC, child.pid, "GPU_SUPERVISOR_RUN") is None


def test_a_zombie_is_dead() -> None:
    with nursery() as place:
        child = place.spawn("rest()")
        kill(child.pid)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        stat = read_stat(PROC, child.pid)
        assert stat is not None
        assert (stat.state, stat.dead) == ("Z", True)


def test_a_process_whose_main_thread_has_ended_lives_while_another_runs() -> None:
    with nursery() as place:
        child = place.spawn(HEADLESS)
        assert child.hear() == ["ready"]

        def headless() -> bool:
            stat = read_stat(PROC, child.pid)
            return stat is not None and stat.state == "Z"

        assert eventually(headless)
        stat = read_stat(PROC, child.pid)
        assert stat is not None
        assert not stat.dead


def test_the_first_of_two_equal_variables_counts(tmp_path: Path) -> None:
    write_process(tmp_path, 7, environ="XRUN=no\0RUN=first\0RUN=second")
    assert environ_value(tmp_path, 7, "RUN") == "first"
    assert environ_value(tmp_path, 7, "UN") is None


def test_the_boot_id_is_the_kernels() -> None:
    assert len(boot_id(PROC)) == 36


def test_only_numbers_are_pids(tmp_path: Path) -> None:
    for name in ("1", "42", "self", "meminfo", "4x"):
        (tmp_path / name).mkdir()
    assert list_pids(tmp_path) == {1, 42}


def test_a_kept_file_says_gone_once_its_process_is(tmp_path: Path) -> None:
    del tmp_path
    shelf = Shelf(10)
    with nursery() as place:
        child = place.spawn("rest()")
        path = f"/proc/{child.pid}/stat"
        assert (shelf.read(path) or b"").startswith(b"%d (" % child.pid)
        kill(child.pid)
        child.process.wait()
        assert shelf.read(path) is None


def test_beyond_its_limit_files_are_read_all_the_same(tmp_path: Path) -> None:
    shelf = Shelf(1)
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    before = open_files()
    assert [shelf.read(f"{tmp_path}/{name}") for name in "abab"] == [b"a", b"b", b"a", b"b"]
    assert open_files() == before + 1
    shelf.close()


def test_without_descriptors_the_kept_ones_are_given_up(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    shelf = Shelf(10)
    assert shelf.read(f"{tmp_path}/a") == b"a"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_lowest_free(), hard))
        assert shelf.read(f"{tmp_path}/b") == b"b"
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        shelf.close()
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            shelf.read(f"{tmp_path}/a")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _lowest_free() -> int:
    fd = os.open("/dev/null", os.O_RDONLY)
    os.close(fd)
    return fd


def test_nothing_of_a_nursery_stays() -> None:
    with nursery() as place:
        child = place.spawn("say(fork(lambda: (os.setsid(), rest())))\nrest()")
        grandchild = int(child.hear()[0])
    assert gone(child.pid)
    assert gone(grandchild)
