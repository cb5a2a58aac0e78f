"""The documents: what is printed from the code is fresh, what is linked is there, what is shown works."""

import re
from pathlib import Path

import pytest

from scripts.print_docs import fresh, printed
from supervisor.cli.command import Exit
from supervisor.cli.main import all_commands
from supervisor.config import load
from supervisor.decide.lifecycle import Event
from supervisor.model.phase import Phase

CHECKOUT = Path(__file__).resolve().parents[1]
PAGES = [CHECKOUT / "README.md", CHECKOUT / "CHANGELOG.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
YAML = re.compile(r"^```yaml\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"`gpu-supervisor ([a-z-]+)|^    gpu-supervisor ([a-z-]+)", re.MULTILINE)

# Set in this version, and acted on by none of it; the table of keys says so of each.
NOT_YET: set[str] = set()


def ids(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("path", sorted((CHECKOUT / "docs").glob("*.md")), ids=ids)
def test_what_is_printed_from_the_code_is_fresh(path: Path) -> None:
    assert path.read_text() == printed()[path], "scripts/docs prints it anew"


def test_a_part_that_was_edited_by_hand_is_printed_anew() -> None:
    stale = "before\n<!-- printed: lifecycle -->\nold\n<!-- end -->\nafter\n"
    text = fresh(stale)
    assert "\nold\n" not in text
    assert "    waiting --> starting: launch\n" in text
    assert text.startswith("before\n<!-- printed: lifecycle -->\n```mermaid\n")
    assert text.endswith("```\n<!-- end -->\nafter\n")


def test_the_pages_have_every_printed_part() -> None:
    marks = {mark for path in PAGES for mark in re.findall(r"<!-- printed: (\w+) -->", path.read_text())}
    printed = {"lifecycle", "keys", "commands", "exit_codes", "metrics", "rules", "readings", "addresses"}
    assert marks == printed


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_every_link_leads_somewhere(path: Path) -> None:
    targets = [target for target in LINK.findall(path.read_text()) if not (path.parent / target).exists()]
    assert targets == []


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_every_command_that_is_named_exists(path: Path) -> None:
    known = {command.name for command in all_commands()}
    named = {first or second for first, second in COMMAND.findall(path.read_text())}
    assert named - known == set()


def test_the_configuration_of_the_readme_is_good(tmp_path: Path) -> None:
    shown = YAML.findall((CHECKOUT / "README.md").read_text())
    assert len(shown) == 1
    file = tmp_path / "config.yaml"
    file.write_text(shown[0].replace("/srv/embed", str(tmp_path)))  # its directory has to be there
    loaded = load(file)
    assert loaded.faults == ()
    assert loaded.later == ()
    assert loaded.plan is not None
    assert list(loaded.plan.workers) == ["chat", "embed"]


def test_the_keys_that_are_not_acted_on_are_marked() -> None:
    rows = re.findall(
        r"^\| `([^`]+)` .*\*\*Not yet\*\*", (CHECKOUT / "docs/config.md").read_text(), re.MULTILINE
    )
    assert set(rows) == NOT_YET


def test_every_key_has_a_meaning() -> None:
    lines = (CHECKOUT / "docs/config.md").read_text().splitlines()
    rows = [re.split(r" (?<!\\)\| ?", line) for line in lines if line.startswith("| `")]
    assert len(rows) > 80
    assert [row[0] for row in rows if len(row) != 5 or len(row[3]) < 5] == []


def test_the_page_of_the_lifecycle_explains_every_phase_and_event() -> None:
    text = (CHECKOUT / "docs/lifecycle.md").read_text().partition("<!-- end -->")[2]
    assert [phase for phase in Phase if f"| `{phase}` |" not in text] == []
    assert [event for event in Event if f"`{event}`" not in text] == []


def test_the_readme_names_every_exit_code() -> None:
    codes = (CHECKOUT / "README.md").read_text().partition("Exit codes: ")[2].partition("\n\n")[0]
    assert {int(number) for number in re.findall(r"\d+", codes)} == {code.value for code in Exit}


def test_the_readme_is_short() -> None:
    assert len((CHECKOUT / "README.md").read_text().splitlines()) < 250
