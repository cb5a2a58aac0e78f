"""How words are written; that they come out as they went in is seen in tests/system/test_units_quoting.py."""

import pytest

from supervisor.systemd.quoting import (
    account,
    assignment,
    command_line,
    directory_path,
    environment_file_path,
    quoted,
    search_path,
)


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("--port=8081", "--port=8081"),
        ("", '""'),
        (";", '";"'),
        ("a b", '"a b"'),
        ("100%", '"100%%"'),
        ("$HOME", '"$HOME"'),
        ('say "x"', r'"say \"x\""'),
        ("it's", '"it\'s"'),
        ("\\", r'"\\"'),
        ("a\nb\tc\r", r'"a\nb\tc\x0d"'),
        ("é", '"é"'),
        ("\u2028", r'"\xe2\x80\xa8"'),
        ("\x01\x7f", r'"\x01\x7f"'),
        ("#", '"#"'),
    ],
)
def test_a_word_is_written_in_quotes_where_it_needs_them(word: str, written: str) -> None:
    assert quoted(word) == written


@pytest.mark.parametrize(
    ("words", "directory", "written"),
    [
        (("serve", "-p", "1"), None, ":@serve serve -p 1"),
        (("/opt/serve",), "/srv", ":@/opt/serve /opt/serve"),
        (("./serve",), "/srv/a b", ':@"/srv/a b/./serve" ./serve'),
        (("bin/serve",), None, ":@/bin/serve bin/serve"),
        (("@serve",), None, ":@@serve @serve"),
        (("./-serve",), "/srv", ":@/srv/./-serve ./-serve"),
        (("a%b",), None, ':@"a%%b" "a%%b"'),
    ],
)
def test_a_command_names_its_program_and_what_it_is_called_by(
    words: tuple[str, ...], directory: str | None, written: str
) -> None:
    assert command_line(words, directory) == written


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("-serve",), "its program '-serve' begins with -: write its whole path"),
        (("+serve",), "its program '+serve' begins with +: write its whole path"),
        (("",), "its program is empty"),
        (("bin/",), "its program 'bin/' is a directory"),
        (('a"b',), "its program 'a\"b' has a quote, a backslash or a control character"),
        (("a\\b",), "its program 'a\\\\b' has a quote, a backslash or a control character"),
        (("x" * 4096,), "its program has a path of more than 4095 bytes"),
        (("a", "\0"), "word 1 of its command holds a NUL character, which no program can be given"),
        (
            ("a", "", "\udcff"),
            r"word 2 of its command holds '\udcff', which systemd does not take for a character",
        ),
        (
            ("a", "\ufdd0"),
            r"word 1 of its command holds '\ufdd0', which systemd does not take for a character",
        ),
        (("a", "\U0010ffff"), r"word 1 of its command holds '\U0010ffff', which systemd does not take"),
        (("a", "é" * 65536), "word 1 of its command has 131072 bytes, and execve takes 131071"),
        (("a", *["b" * 131071] * 8), "its command is longer than the 1 MiB that systemd reads in one line"),
    ],
)
def test_a_command_that_systemd_cannot_be_told_is_refused_in_words(words: tuple[str, ...], why: str) -> None:
    with pytest.raises(ValueError, match=r"^") as refused:
        command_line(words)
    assert str(refused.value).startswith(why)


def test_a_variable_is_one_word() -> None:
    assert assignment("A", "b") == "A=b"
    assert assignment("A", "b c") == '"A=b c"'
    with pytest.raises(ValueError, match=r"^environment\.A holds a NUL character"):
        assignment("A", "\0")
    with pytest.raises(ValueError, match=r"^environment\.A has 131072 bytes"):
        assignment("A", "x" * 131070)


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/srv/a b", "/srv/a b"),
        ('/srv/"%n"', '/srv/"%%n"'),
        ("/srv/a ", "/srv/a /."),
        ("/srv/a\\", "/srv/a\\/."),
        ("/srv/[a]*", "/srv/[a]*"),
    ],
)
def test_a_directory_is_written_without_quotes(path: str, written: str) -> None:
    assert directory_path(path) == written


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/etc/a b", "/etc/a b"),
        ("/etc/a%", "/etc/a%%"),
        ("/etc/[a]*?", r"/etc/\[a]\*\?"),
        ("/etc/a\\", r"/etc/a\\"),
        ("/etc/a\t", "/etc/a[\t]"),
    ],
)
def test_a_file_of_variables_is_one_file_and_no_pattern(path: str, written: str) -> None:
    assert environment_file_path(path) == written


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("a", "directory 'a' is no absolute path"),
        ("", "directory is empty"),
        ("/a\r", "directory '/a\\r' has a line break, which a unit cannot hold in a path"),
        ("/" + "a" * 4095, "directory is a path of more than 4095 bytes"),
        ("/\udcff", "directory holds '\\udcff', which systemd does not take for a character"),
    ],
)
def test_a_path_that_a_unit_cannot_hold_is_refused_in_words(path: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"^") as refused:
        directory_path(path)
    assert str(refused.value) == why


@pytest.mark.parametrize(
    ("name", "written"), [("llm", "llm"), ("007", "7"), ("0", "0"), ("a%", "a%%"), ("é x", "é x")]
)
def test_a_user_is_a_name_or_a_number(name: str, written: str) -> None:
    assert account("user", name) == written


@pytest.mark.parametrize("name", ["", " a", "a ", "a:b", "a/b", "a\nb", "a\\"])
def test_a_name_that_no_user_has_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no name that systemd takes"):
        account("user", name)


def test_a_search_path_keeps_the_directories_that_systemd_takes() -> None:
    assert search_path("/opt/100%/bin:.:bin::/usr/bin:/a b:/c\\:/d/../e") == "/opt/100%%/bin:/usr/bin"
    assert search_path("") is None
