"""The checkout itself: its scripts, its pins, and what may not be written into its files."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

CHECKOUT: Final = Path(__file__).resolve().parents[1]
PYPROJECT: Final[dict[str, Any]] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())

DISTRIBUTION_OF: Final = {"pynvml": "nvidia-ml-py", "yaml": "pyyaml"}
USED_BY_NAME: Final = {"wsproto"}  # uvicorn imports it when it is told to
OF_DEPENDENCIES: Final = {  # what starlette and uvicorn, and textual and rich need themselves
    *("anyio", "click", "idna", "typing-extensions"),
    *("linkify-it-py", "markdown-it-py", "mdit-py-plugins", "mdurl", "platformdirs", "pygments"),
}
OPTIONAL: Final = {"torch", "optuna"}  # a worker's, used by guard/ where they are there

# A path that is true on one machine only: somebody's home, or a place below /tmp with a name.
OF_ONE_MACHINE: Final = re.compile(r"/(home|Users)/[a-z][a-z0-9_-]*/|/root/[.\w]|/tmp/[a-z]+/[a-z]")


def kept_files() -> list[Path]:
    """List the files that git keeps or would keep."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
            cwd=CHECKOUT,
            capture_output=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = (CHECKOUT / os.fsdecode(name) for name in listed.split(b"\0") if name)
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def programs() -> list[Path]:
    """List the files that begin with #!, wherever they are kept."""
    return [path for path in kept_files() if path.read_bytes()[:2] == b"#!"]


def normal(requirement: str) -> str:
    """Return the name in a requirement, as PyPI compares names."""
    name = re.split(r"[\s\[<>=!~;]", requirement.strip(), maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(name: str) -> set[str]:
    """Return the distributions that requirements/NAME.txt pins."""
    lines = (CHECKOUT / "requirements" / f"{name}.txt").read_text().splitlines()
    return {normal(line) for line in lines if re.match(r"[A-Za-z0-9]", line)}


def imported() -> set[str]:
    """Return the distributions that the package imports, by their names on PyPI."""
    tops: set[str] = set()
    for path in (CHECKOUT / "supervisor").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                tops |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                tops.add(node.module.partition(".")[0])
    foreign = tops - set(sys.stdlib_module_names) - {"supervisor", *OPTIONAL}
    return {normal(DISTRIBUTION_OF.get(top, top)) for top in foreign}


def test_every_program_is_executable() -> None:
    assert [str(path) for path in programs() if not os.access(path, os.X_OK)] == []


def test_every_script_says_first_what_it_is_for() -> None:
    silent = [
        str(path)
        for path in programs()
        if not re.match(r'#!.*\n(# \S.{10,}|"""\S.{10,})', path.read_text(errors="replace"))
    ]
    assert silent == []


def test_every_shell_script_stops_at_the_first_error() -> None:
    bash = [path for path in programs() if re.match(r"#!.*\bbash\b", path.read_text(errors="replace"))]
    assert [str(path) for path in bash if "\nset -euo pipefail\n" not in path.read_text()] == []


def test_no_file_names_a_path_of_one_machine() -> None:
    found: list[str] = []
    for path in kept_files():
        if path == Path(__file__).resolve():
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if OF_ONE_MACHINE.search(line) or f"{CHECKOUT}/" in line:
                found.append(f"{path.relative_to(CHECKOUT)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_the_dependencies_are_what_the_package_imports() -> None:
    declared = {normal(requirement) for requirement in PYPROJECT["project"]["dependencies"]}
    assert declared == imported() | USED_BY_NAME


@pytest.mark.parametrize("name", ["run", *PYPROJECT["dependency-groups"]])
def test_every_dependency_is_pinned(name: str) -> None:
    wanted = PYPROJECT["project"]["dependencies"] if name == "run" else PYPROJECT["dependency-groups"][name]
    missing = {normal(requirement) for requirement in wanted} - pinned(name)
    assert missing == set(), "scripts/lock takes them up"


def test_a_lock_pins_nothing_that_the_project_has_left() -> None:
    declared = {normal(requirement) for requirement in PYPROJECT["project"]["dependencies"]}
    assert pinned("run") - declared == OF_DEPENDENCIES, "scripts/lock drops them"


def test_every_pin_carries_a_hash_and_no_address() -> None:
    for path in sorted((CHECKOUT / "requirements").iterdir()):
        text = path.read_text()
        assert text.startswith("# Made by scripts/lock "), path
        assert "://" not in text, path
        for pin in re.split(r"\n(?=[A-Za-z0-9])", text)[1:]:
            assert re.match(r"[\w.-]+==\S+", pin), pin
            assert "--hash=sha256:" in pin, pin


def test_the_licence_is_apache_2() -> None:
    text = (CHECKOUT / "LICENSE").read_text()
    assert "Apache License" in text[:200]
    assert "END OF TERMS AND CONDITIONS" in text
