import os
from pathlib import Path

import pytest

from supervisor.act.worker_logs import WorkerLogs, tail
from supervisor.model.news import Launched
from supervisor.model.plan import Plan
from support.launching import Stage, hostile, plan, play

KIB = 1024


def _size(path: Path) -> int:
    return path.stat().st_size


def _write(logs: WorkerLogs, worker: str, content: bytes) -> int:
    fd = logs.open(worker)
    os.write(fd, content)
    return fd


def test_a_log_is_appended_to_and_private(tmp_path: Path) -> None:
    logs = WorkerLogs(tmp_path / "log")
    os.close(_write(logs, "chat", b"one\n"))
    os.close(_write(logs, "chat", b"two\n"))
    assert logs.path("chat").read_bytes() == b"one\ntwo\n"
    assert logs.path("chat").stat().st_mode & 0o777 == 0o640


def test_a_log_that_is_a_link_is_not_opened(tmp_path: Path) -> None:
    logs = WorkerLogs(tmp_path / "log")
    (tmp_path / "log/chat.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        logs.open("chat")


def test_a_log_directory_that_was_removed_is_made_again(tmp_path: Path) -> None:
    logs = WorkerLogs(tmp_path / "log")
    os.close(_write(logs, "chat", b"one\n"))
    logs.path("chat").unlink()
    (tmp_path / "log").rmdir()
    assert logs.begin("chat") is None
    assert logs.last_words("chat") == ()
    os.close(_write(logs, "chat", b"two\n"))
    assert logs.begin("chat") == 4
    assert logs.path("chat").read_bytes() == b"two\n"


def test_a_log_of_another_kind_than_a_file_is_refused(tmp_path: Path) -> None:
    warnings: list[str] = []
    logs = WorkerLogs(tmp_path, warn=warnings.append)
    (tmp_path / "chat.log").mkdir()
    with pytest.raises(IsADirectoryError):
        logs.open("chat")
    assert warnings == []


def test_what_cannot_be_shortened_is_told_once(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        log, previous = stage.places.log_dir / "chat.log", stage.places.log_dir / "chat.log.1"
        log.touch()

        def tidied() -> bool:
            stage.launcher.tidy(Plan())
            return log.stat().st_size == 0

        for copies_to in ("/dev/full", "/dev/full", "/dev/full", None):
            if copies_to is not None:
                log.with_suffix(".log.new").symlink_to(copies_to)
            os.truncate(log, (16 << 20) + 1)
            await stage.until(tidied, "it is shortened")
        assert previous.stat().st_size == 16 << 20  # the last one went well
        [warning] = stage.warnings
        assert warning.startswith(f"cannot shorten {log}: ")

    play(tmp_path, scene)


def test_a_log_beyond_its_limit_keeps_its_newest_part_and_its_writer(tmp_path: Path) -> None:
    logs = WorkerLogs(tmp_path, limit_bytes=10)
    writer = _write(logs, "chat", b"0123456789abcdef")
    assert logs.trim() == ()
    os.write(writer, b"later")
    os.close(writer)
    assert (tmp_path / "chat.log.1").read_bytes() == b"6789abcdef"
    assert (tmp_path / "chat.log").read_bytes() == b"later"
    assert logs.trim() == ()
    assert (tmp_path / "chat.log").read_bytes() == b"later"


def test_where_the_old_output_cannot_be_kept_the_log_is_bounded_all_the_same(tmp_path: Path) -> None:
    logs = WorkerLogs(tmp_path, limit_bytes=10)
    os.close(_write(logs, "chat", b"x" * 100))
    (tmp_path / "chat.log.new").symlink_to("/dev/full")
    (fault,) = logs.trim()
    assert fault.startswith(f"cannot shorten {tmp_path / 'chat.log'}: ")
    assert (tmp_path / "chat.log").stat().st_size == 0


def test_a_worker_that_floods_its_log_is_bounded_and_writes_on(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        logs = WorkerLogs(tmp_path / "log", limit_bytes=256 * KIB)
        run = stage.launch(
            plan("chat", *hostile("flood", "--rate", str(20 << 20), "--bytes", str(100 << 20)))
        )
        await stage.told(Launched, run)
        path, previous = logs.path("chat"), Path(f"{logs.path('chat')}.1")
        for _ in range(3):
            await stage.until(lambda: path.stat().st_size > 512 * KIB, "it floods")
            assert logs.trim() == ()
            assert _size(previous) <= 256 * KIB + (1 << 20)
        await stage.until(lambda: path.stat().st_size > 0, "it writes on")
        with path.open("rb") as file:
            assert file.read(1) == b"x"

    play(tmp_path, scene)


def test_the_tail_reaches_into_the_predecessor(tmp_path: Path) -> None:
    (tmp_path / "chat.log.1").write_text("one\ntwo\n")
    (tmp_path / "chat.log").write_text("three\nfour")
    assert tail(tmp_path / "chat.log", 3) == ("two", "three", "four")
    assert tail(tmp_path / "chat.log", 100) == ("one", "two", "three", "four")
    assert tail(tmp_path / "chat.log", 0) == ()


def test_no_output_has_an_empty_tail(tmp_path: Path) -> None:
    assert tail(tmp_path / "chat.log", 5) == ()


def test_a_tail_is_fit_for_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "chat.log").write_bytes(
        b"a\tb\r\n\x1b[31mred\x1b[0m\x07\n\xff\n\xc2\x9b2J\n" + b"y" * 5000 + b"\n"
    )
    assert tail(tmp_path / "chat.log", 5) == ("a\tb", "[31mred[0m", "\ufffd", "2J", "y" * 2000)


def test_the_tail_of_a_huge_log_is_its_end(tmp_path: Path) -> None:
    with (tmp_path / "chat.log").open("wb") as file:
        file.truncate(1 << 32)
        file.seek(0, os.SEEK_END)
        file.write(b"\nlast\n")
    assert tail(tmp_path / "chat.log", 1) == ("last",)
