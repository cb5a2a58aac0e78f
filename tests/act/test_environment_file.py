from pathlib import Path

import pytest

from supervisor.act.environment_file import parse_environment, read_environment_file
from supervisor.act.refusal import CannotLaunchError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("A=1\nB=2\n", {"A": "1", "B": "2"}),
        ("A=1\nA=2", {"A": "2"}),
        ("# no\n; no\n\n  \nA=1", {"A": "1"}),
        ("# goes on \\\nA=0\nA=1", {"A": "1"}),
        ("no assignment\nA=1", {"A": "1"}),
        ("A=", {"A": ""}),
        ("A=  b  c \t\nB=1", {"A": "b  c", "B": "1"}),
        ("  A = b", {"A": "b"}),
        ("A=a=b", {"A": "a=b"}),
        ("A='a \\ $b\"'", {"A": 'a \\ $b"'}),
        ('A="a \\" \\$b \\\\ \\n"', {"A": 'a " $b \\ \\n'}),
        ("A='two\nlines'\nB=1", {"A": "two\nlines", "B": "1"}),
        ('A="joined\\\nhere"', {"A": "joinedhere"}),
        ("A=one\\\n two", {"A": "one two"}),
        ("A=a\\ b\\\\c", {"A": "a b\\c"}),
        ("A=\"a\"'b'c", {"A": "abc"}),
        ('A="a "  ', {"A": "a "}),
        ("A=$HOME `id`", {"A": "$HOME `id`"}),
        ("A=x # not a comment", {"A": "x # not a comment"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("A=ü", {"A": "ü"}),
    ],
)
def test_a_file_is_read_as_systemd_reads_it(text: str, found: dict[str, str]) -> None:
    assert parse_environment(text) == found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"A=1\n\nTOKEN='hunter2\nB=2", "line 3: a quote is not closed"),
        (b"A=1\nexport KEY=hunter2", "line 2: the name of a variable is letters, digits and underscores"),
        (b"1A=hunter2", "line 1: the name of a variable is letters, digits and underscores"),
        (b"A=hunter2\0", "it contains a NUL byte"),
        (b"A=" + b"hunter2" * 200_000, "it is larger than 1 MiB"),
    ],
)
def test_a_fault_names_the_line_and_never_the_value(tmp_path: Path, text: bytes, why: str) -> None:
    file = tmp_path / "env"
    file.write_bytes(text)
    with pytest.raises(CannotLaunchError) as raised:
        read_environment_file(file)
    assert str(raised.value) == f"cannot read environment_file {file}: {why}"
    assert raised.value.hopeless is True
    assert "hunter2" not in repr(raised.value.__cause__)


def test_bytes_that_are_not_utf8_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_bytes(b"A=\xff")
    assert read_environment_file(file) == {"A": "\udcff"}


def test_a_directory_is_no_environment_file(tmp_path: Path) -> None:
    with pytest.raises(CannotLaunchError, match="Is a directory"):
        read_environment_file(tmp_path)
