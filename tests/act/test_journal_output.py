from pathlib import Path

import pytest

from supervisor.act.journal_output import JournalOutput
from supervisor.act.journalctl import run_journalctl
from support.procs import open_files


def program(tmp_path: Path, text: str) -> str:
    """Put a journalctl into a folder of its own, and return that."""
    path = tmp_path / "journalctl"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(tmp_path)


def test_the_tail_is_what_the_unit_printed_fit_for_a_terminal(tmp_path: Path) -> None:
    search = program(
        tmp_path, f'echo "$@" >>{tmp_path}/asked; test $1 = --sync || printf "a\\tb\\r\\n\\033[31mred\\n"'
    )
    assert JournalOutput(search=search).tail("chat", 40) == ("a\tb", "[31mred")
    assert JournalOutput(search=search).tail("chat", 40, "5ca1ab1e") == ("a\tb", "[31mred")
    words = "--lines=40 --quiet --no-pager --output=cat _SYSTEMD_UNIT=gpu-worker-chat.service"
    assert (tmp_path / "asked").read_text().splitlines() == [
        "--sync",
        f"{words} _SYSTEMD_UNIT=gpu-drain-chat.service",
        "--sync",
        f"{words} _SYSTEMD_INVOCATION_ID=5ca1ab1e",
    ]


def test_the_last_words_are_those_of_one_life_as_they_are(tmp_path: Path) -> None:
    search = program(
        tmp_path, f'echo "$@" >>{tmp_path}/asked; test $1 = --sync || printf "a\tb\n\033[31mred\n"'
    )
    assert JournalOutput(search=search).last_words("chat", "5ca1ab1e") == ("a\tb", "\x1b[31mred")
    words = "--lines=200 --quiet --no-pager --output=cat _SYSTEMD_UNIT=gpu-worker-chat.service"
    assert (tmp_path / "asked").read_text().splitlines() == [
        "--sync",
        f"{words} _SYSTEMD_INVOCATION_ID=5ca1ab1e",
    ]


def test_last_words_that_come_too_late_are_not_waited_for(tmp_path: Path) -> None:
    search = program(tmp_path, "test $1 = --sync || exec sleep 60")
    with pytest.raises(OSError, match="journalctl did not end in time"):
        JournalOutput(search=search).last_words("chat", "5ca1ab1e")


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
