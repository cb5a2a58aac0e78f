"""The runbooks: one page for each alert, whose commands exist, and which `diagnose` names."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.cli.main import build_parser

CHECKOUT = Path(__file__).resolve().parents[1]
FOLDER = CHECKOUT / "docs/runbooks"
INDEX = FOLDER / "README.md"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path != INDEX)
CHECKS = sorted((CHECKOUT / "supervisor/cli/diagnose").rglob("*.py"))
BLOCK = re.compile(r"^    (?:sudo )?gpu-supervisor ([^#\n]+)", re.MULTILINE)
SPAN = re.compile(r"`(?:sudo )?gpu-supervisor ([^`]+)`")
LINK = re.compile(r"\]\(([^)#:]+)\)")
ALERTS = {
    "GPUMemoryExhaustion": "gpu-memory-exhaustion",
    "HighMemoryUsage": "high-memory-usage",
    "HostMemoryLow": "host-memory-low",
    "WorkerRestartLoop": "worker-restart-loop",
    "WorkerHeld": "worker-held",
    "DegradedWorker": "degraded-worker",
    "LeakForecast": "leak-forecast",
    "GPUHot": "gpu-hot",
    "GPUQuarantined": "gpu-quarantined",
    "SupervisorStale": "supervisor-stale",
}
PARTS = [
    "Meaning",
    "Impact",
    "Diagnosis",
    "Immediate",
    "Short term",
    "Long term",
    "Root causes",
    "Escalation",
]


def ids(path: Path) -> str:
    return path.name


def commands_in(path: Path) -> Iterator[str]:
    """Yield every command line of the product that is shown."""
    texts = strings_of(path) if path.suffix == ".py" else [path.read_text(encoding="utf-8")]
    yield from (found for text in texts for pattern in (BLOCK, SPAN) for found in pattern.findall(text))


def strings_of(path: Path) -> list[str]:
    """Return the texts of a module; what is filled in stands as a word."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    texts = [
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts
    ]
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            filled = (str(each.value) if isinstance(each, ast.Constant) else "word" for each in node.values)
            texts.append("".join(filled))
    return texts


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    assert [path.stem for path in PAGES] == sorted(ALERTS.values())
    rows = re.findall(r"^\| (\w+) \| \[([a-z-]+)\]\(([a-z-]+)\.md\) \|", INDEX.read_text(), re.MULTILINE)
    assert {(alert, name, name) for alert, name in ALERTS.items()} == set(rows)


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_a_page_has_every_part_in_its_order(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == PARTS
    assert ALERTS[text.splitlines()[0].removeprefix("# ")] == path.stem


@pytest.mark.parametrize("path", [INDEX, *PAGES], ids=ids)
def test_a_page_names_at_least_one_command_and_each_is_understood(path: Path) -> None:
    lines = list(commands_in(path))
    assert lines
    for line in lines:
        words = shlex.split(line)
        build_parser(words).parse_args(words)


def test_every_command_that_diagnose_recommends_is_understood() -> None:
    lines = [line for path in CHECKS for line in commands_in(path)]
    assert len(lines) > 20
    for line in lines:
        words = shlex.split(line)
        build_parser(words).parse_args(words)


@pytest.mark.parametrize("path", [INDEX, *PAGES], ids=ids)
def test_every_link_of_a_page_leads_somewhere(path: Path) -> None:
    assert [found for found in LINK.findall(path.read_text()) if not (path.parent / found).exists()] == []


def test_every_page_that_diagnose_names_exists_and_all_are_named() -> None:
    code = "".join(path.read_text() for path in CHECKS)
    assert set(re.findall(r'page\("([a-z-]+)"\)', code)) <= set(ALERTS.values())
    told = {text for path in CHECKS for text in strings_of(path)}
    assert set(ALERTS.values()) <= told


def test_the_findings_of_the_index_are_those_of_the_checks() -> None:
    rows = re.findall(r"^\| \w+ \| \[.*\| (`.*`) \|$", INDEX.read_text(), re.MULTILINE)
    told = {ident for row in rows for ident in re.findall(r"`([a-z-]+)`", row)}
    known = {text for path in CHECKS for text in strings_of(path)}
    assert len(rows) == len(ALERTS)
    assert told - known == set()
