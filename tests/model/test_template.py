"""Braces in commands, environment values and probe URLs."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.model.plan import Setting
from supervisor.model.template import TemplateError, fill, names_in


@pytest.mark.parametrize(
    ("text", "replica", "filled"),
    [
        ("plain", None, "plain"),
        ("{ctx}", None, "4096"),
        ("{ctx+10}", 3, "4106"),
        ("--flag={mode}", None, "--flag=on"),
        ("{fast}", None, "true"),
        ("{ratio}", None, "0.5"),
        ("{port}", None, "8081"),
        ("{port}", 1, "8081"),
        ("{port}", 3, "8083"),
        ("{port+100}", 3, "8183"),
        ("{metrics_port}", 2, "9001"),
        ("{replica}", None, "1"),
        ("{replica}", 7, "7"),
        ("{replica+10}", 7, "17"),
        ('{{"model": "{mode}"}}', None, '{"model": "on"}'),
        ('{{"a": {{"b": 1}}}}', None, '{"a": {"b": 1}}'),
    ],
)
def test_braces_are_filled_for_the_replica(text: str, replica: int | None, filled: str) -> None:
    settings: dict[str, Setting] = {
        "ctx": 4096,
        "mode": "on",
        "fast": True,
        "ratio": 0.5,
        "port": 8081,
        "metrics_port": 9000,
    }
    assert fill(text, settings, replica) == filled


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{ctxx}", "{ctxx} names no setting"),
        ('{"a": 1}', "a lone {: write {{ for a literal brace, {name} for a setting"),
        ("}", "a lone }: write }} for a literal brace, {name} for a setting"),
        ("{}", "a lone {: write {{ for a literal brace, {name} for a setting"),
        ("{mode+1}", "{mode+1} needs an integer, and mode is 'on'"),
        ("{fast+1}", "{fast+1} needs an integer, and fast is 'true'"),
        ("{port+60000}", "{port+60000} comes to 68081, and ports end at 65535"),
        ("{bad_port}", "{bad_port} needs an integer, and bad_port is 'x'"),
    ],
)
def test_what_cannot_be_filled_is_refused_in_words(text: str, why: str) -> None:
    settings: dict[str, Setting] = {"ctx": 4096, "mode": "on", "fast": True, "port": 8081, "bad_port": "x"}
    with pytest.raises(TemplateError, match=f"^{re.escape(why)}$"):
        fill(text, settings, None)


def test_the_names_in_a_text_are_those_of_its_well_formed_braces() -> None:
    assert names_in("{a} {b+1} {{c}} {replica}") == {"a", "b", "replica"}


@given(st.text(alphabet="{}ab+1 "))
def test_any_text_is_filled_or_refused(text: str) -> None:
    filled, why = "", ""
    try:
        filled = fill(text, {"a": 1, "b": "x"}, 2)
    except TemplateError as error:
        why = str(error)
    assert bool(why) or filled.count("{") == text.count("{{")


@given(st.text())
def test_a_text_whose_braces_are_doubled_comes_back_as_it_was(text: str) -> None:
    assert fill(text.replace("{", "{{").replace("}", "}}"), {}, None) == text
