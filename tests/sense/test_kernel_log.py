"""The kernel's log, read from a pipe that stands in for /dev/kmsg, and from the real one."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from supervisor.model.reading import Missing
from supervisor.sense.kernel_log import PATH, KernelLog, Record, open_kernel_log


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[int]:
    """Return the writing end of a pipe at `kmsg`."""
    os.mkfifo(tmp_path / "kmsg")
    descriptor = os.open(tmp_path / "kmsg", os.O_RDWR | os.O_NONBLOCK)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def log(tmp_path: Path, pipe: int) -> Iterator[KernelLog]:
    del pipe
    opened = open_kernel_log(tmp_path / "kmsg")
    assert isinstance(opened, KernelLog)
    yield opened
    opened.close()


def record(seq: int, age_s: float, text: str) -> bytes:
    stamp = int((time.clock_gettime(time.CLOCK_MONOTONIC_RAW) - age_s) * 1e6)
    return f"3,{seq},{stamp},-;{text}\n".encode()


def texts(records: Sequence[Record]) -> list[str]:
    return [one.text for one in records]


def test_records_are_read_as_they_come_and_nothing_is_waited_for(log: KernelLog, pipe: int) -> None:
    assert log.read() == []
    os.write(pipe, record(7, 0.0, "first; with; semicolons") + record(8, 0.0, "second"))
    first, second = log.read()
    assert (first.seq, first.text, second.seq, second.text) == (7, "first; with; semicolons", 8, "second")
    assert 0.0 <= time.monotonic() - first.at_s < 5.0
    assert log.read() == []
    assert log.ended is None


def test_of_what_was_said_before_only_the_last_minute_counts(log: KernelLog, pipe: int) -> None:
    os.write(pipe, record(1, 90.0, "old") + record(2, 30.0, "young"))
    [young] = log.look_back()
    assert (young.seq, young.text) == (2, "young")
    assert 29.0 < time.monotonic() - young.at_s < 35.0
    assert log.read() == []


def test_further_lines_of_a_record_and_garbage_are_left_out(log: KernelLog, pipe: int) -> None:
    os.write(
        pipe,
        b"6,1,2,-,caller=T1;usb 1-1\n SUBSYSTEM=usb\n DEVICE=+usb:1-1;3,4,5,-;forged\n"
        b"\n;;;\n1,x,3,-;no number\n6,99999999999999999999999,1,-;too long\n\xff,1,2,-;x\n6,2,3,-;\xff!\n",
    )
    assert texts(log.read()) == ["usb 1-1", "\ufffd!"]


def test_a_line_that_comes_in_pieces_is_one_and_one_without_end_is_bounded(log: KernelLog, pipe: int) -> None:
    os.write(pipe, b"6,1,2,-;half ")
    assert log.read() == []
    os.write(pipe, b"and half\n")
    assert texts(log.read()) == ["half and half"]
    for _ in range(20):
        os.write(pipe, b"x" * 8192)
        assert log.read() == []
    os.write(pipe, b"\n6,2,3,-;after\n")
    assert texts(log.read()) == ["after"]


def test_a_log_that_ends_says_so(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "kmsg")
    opened = open_kernel_log(tmp_path / "kmsg")
    assert isinstance(opened, KernelLog)
    assert opened.read() == []
    assert opened.ended == Missing(f"cannot read {tmp_path}/kmsg: it has ended")
    assert opened.read() == []
    opened.close()


def test_what_answers_nothing_but_errors_is_no_log(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    invalid = os.pidfd_open(os.getpid())  # EINVAL, which a single record may answer too
    for descriptor, why in ((folder, "Is a directory"), (invalid, "Invalid argument")):
        opened = KernelLog(descriptor, tmp_path)
        assert opened.read() == []
        assert opened.ended == Missing(f"cannot read {tmp_path}: {why}")
        opened.close()


def test_where_there_is_no_log_the_reason_is_told(tmp_path: Path) -> None:
    absent, plain = tmp_path / "absent", tmp_path / "plain"
    plain.write_text("3,1,2,-;a file\n", encoding="utf-8")
    assert open_kernel_log(absent) == Missing(f"cannot read {absent}: No such file or directory")
    assert open_kernel_log(plain) == Missing(f"cannot read {plain}: it is no log of the kernel")


def test_a_console_is_never_read() -> None:
    """In some containers /dev/kmsg is a link to it."""
    ours, theirs = os.openpty()
    name = Path(os.ttyname(theirs))
    os.write(ours, b"3,1,2,-;typed\n")
    assert open_kernel_log(name) == Missing(f"cannot read {name}: it is no log of the kernel")
    os.close(ours)
    os.close(theirs)


def test_the_real_log_is_read_without_waiting(require: Callable[[object, str], None]) -> None:
    require(os.access(PATH, os.R_OK), "no kernel log that may be read here")
    opened = open_kernel_log()
    assert isinstance(opened, KernelLog)
    before = opened.look_back()
    assert [one.seq for one in before] == sorted({one.seq for one in before})
    assert all(time.monotonic() - one.at_s < 70.0 for one in before)
    after = opened.read()
    assert all(one.seq > old.seq for one in after for old in before)
    assert opened.ended is None
    opened.close()
