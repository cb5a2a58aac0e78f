import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path

import pytest

from supervisor.act.drain_command import DrainCommands
from supervisor.act.journal_output import JournalOutput
from supervisor.act.journal_pipe import LINE_BYTES, MOST_BYTES
from supervisor.act.journalctl import run_journalctl
from supervisor.model.action import Launch
from supervisor.model.plan import WorkerPlan
from support.procs import open_files

FIELDS = (
    b"PRIORITY=6\nSYSLOG_IDENTIFIER=chat\nWORKER=chat\nOBJECT_SYSTEMD_UNIT=gpu-worker-chat.service\nMESSAGE="
)


def program(tmp_path: Path, text: str) -> str:
    """Put a journalctl into a folder of its own, and return that."""
    path = tmp_path / "journalctl"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(tmp_path)


@pytest.fixture
def journald(tmp_path: Path) -> Generator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.settimeout(10)
        yield listening


def play(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(_bounded(scene))


async def _bounded(scene: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.timeout(20):
        await scene()


async def heard(journald: socket.socket, count: int) -> list[bytes]:
    """Return the messages of the next entries, each of which is about the unit of chat."""
    entries = [await asyncio.to_thread(journald.recv, 1 << 16) for _ in range(count)]
    assert all(entry.startswith(FIELDS) for entry in entries)
    return [entry.removeprefix(FIELDS) for entry in entries]


def test_each_line_becomes_an_entry_of_the_workers_unit(tmp_path: Path, journald: socket.socket) -> None:
    async def scene() -> None:
        before = open_files()
        writer = JournalOutput(tmp_path / "socket").open("chat")
        assert not os.get_inheritable(writer)
        os.write(writer, b"one\ntwo=\xff\n\nthr")
        assert await heard(journald, 3) == [b"one\n", b"two=\xff\n", b"\n"]
        os.write(writer, b"ee\nwithout end")
        assert await heard(journald, 1) == [b"three\n"]
        os.close(writer)
        assert await heard(journald, 1) == [b"without end\n"]
        await asyncio.sleep(0)
        assert open_files() == before

    play(scene)


def test_what_a_drain_command_prints_is_in_the_journal(tmp_path: Path, journald: socket.socket) -> None:
    async def scene() -> None:
        commands = DrainCommands(JournalOutput(tmp_path / "socket"))
        order = Launch("chat", "run-1", WorkerPlan("chat", "chat", ("true",)), {}, (), "test")
        assert await commands.run(order, ("/bin/sh", "-c", "echo busy; exit 1"), 10.0) == (
            False,
            "it exited with 1",
        )
        assert await heard(journald, 1) == [b"busy\n"]

    play(scene)


def test_a_long_line_becomes_several_entries(tmp_path: Path, journald: socket.socket) -> None:
    async def scene() -> None:
        writer = JournalOutput(tmp_path / "socket").open("chat")
        os.write(writer, b"x" * (LINE_BYTES + 10) + b"\n")
        os.close(writer)
        assert await heard(journald, 2) == [b"x" * LINE_BYTES + b"\n", b"x" * 10 + b"\n"]

    play(scene)


def test_a_flood_is_cut_short_and_its_writer_goes_on(tmp_path: Path, journald: socket.socket) -> None:
    async def scene() -> None:
        writer = JournalOutput(tmp_path / "socket").open("chat")
        flood = asyncio.to_thread(_write_all, writer, b"y" * 4095 + b"\n", 2 * MOST_BYTES // 4096)
        listen = asyncio.to_thread(_until_more, journald)
        entries, _ = await asyncio.gather(listen, flood)
        assert len(entries) <= MOST_BYTES // 4096 + 1
        lost = 2 * MOST_BYTES // 4096 - (len(entries) - 1)
        assert entries[-1] == FIELDS + b"(%d lines more)\n" % lost

    play(scene)


def _write_all(writer: int, line: bytes, count: int) -> None:
    for _ in range(count):
        left = line
        while left:
            left = left[os.write(writer, left) :]
    os.close(writer)


def _until_more(journald: socket.socket) -> list[bytes]:
    entries = [journald.recv(1 << 16)]
    while not entries[-1].endswith(b"more)\n"):
        entries.append(journald.recv(1 << 16))
    return entries


def test_without_journald_there_is_no_output_to_open(tmp_path: Path) -> None:
    async def scene() -> None:
        before = open_files()
        with pytest.raises(FileNotFoundError):
            JournalOutput(tmp_path / "socket").open("chat")
        assert open_files() == before

    play(scene)


def test_the_tail_is_what_the_unit_printed_fit_for_a_terminal(tmp_path: Path) -> None:
    search = program(
        tmp_path, f'echo "$@" >>{tmp_path}/asked; test $1 = --sync || printf "a\\tb\\r\\n\\033[31mred\\n"'
    )
    assert JournalOutput(search=search).tail("chat", 40) == ("a\tb", "[31mred")
    assert JournalOutput(search=search).tail("chat", 40, "5ca1ab1e") == ("a\tb", "[31mred")
    words = "--lines=40 --quiet --no-pager --output=cat _SYSTEMD_UNIT=gpu-worker-chat.service"
    assert (tmp_path / "asked").read_text().splitlines() == [
        "--sync",
        f"{words} + OBJECT_SYSTEMD_UNIT=gpu-worker-chat.service _UID=0",
        "--sync",
        f"{words} _SYSTEMD_INVOCATION_ID=5ca1ab1e",
    ]


def test_a_unit_that_printed_nothing_has_an_empty_tail(tmp_path: Path) -> None:
    search = program(tmp_path, "exit 0")
    assert JournalOutput(search=search).tail("chat", 40) == ()


def test_no_lines_are_not_asked_for() -> None:
    assert JournalOutput(search="/nonexistent").tail("chat", 0) == ()


def test_a_sync_that_fails_does_not_hide_the_lines(tmp_path: Path) -> None:
    search = program(tmp_path, "test $1 = --sync && exit 1; echo last words")
    assert JournalOutput(search=search).tail("chat", 40) == ("last words",)


def test_a_journal_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    output = JournalOutput(search=str(tmp_path))
    with pytest.raises(OSError, match=rf"^cannot read the journal: there is no journalctl in {tmp_path}$"):
        output.tail("chat", 40)
    program(tmp_path, "echo No journal files were found. >&2; exit 1")
    with pytest.raises(OSError, match=r"^cannot read the journal: No journal files were found\.$"):
        output.tail("chat", 40)
    program(tmp_path, "exit 3")
    with pytest.raises(OSError, match=r"^cannot read the journal: journalctl ended with 3$"):
        output.tail("chat", 40)


def test_a_journalctl_that_hangs_is_ended(tmp_path: Path) -> None:
    search = program(tmp_path, f"echo $$ >{tmp_path}/pid; exec sleep 60")
    before = open_files()
    with pytest.raises(TimeoutError, match=r"^cannot read the journal: journalctl did not end in time$"):
        run_journalctl((), 100, 0.0, search)
    assert open_files() == before


def test_of_a_flood_the_end_is_kept(tmp_path: Path) -> None:
    search = program(tmp_path, "seq 1 200000; echo last")
    (last,) = JournalOutput(search=search).tail("chat", 1)
    assert last == "last"
