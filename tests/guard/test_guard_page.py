"""docs/guard.md: what is shown there runs."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from supervisor.config import load

CHECKOUT: Final = Path(__file__).resolve().parents[2]
BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FOREIGN: Final = re.compile(r"^import (torch|llama_cpp|optuna)$", re.MULTILINE)


def blocks(language: str, page: str = "docs/guard.md") -> list[str]:
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    return [block for written, block in BLOCK.findall(text) if written == language]


def needing(*names: str) -> list[str]:
    """Return the programs of the page that import one of these; without any, those that import none."""
    found: list[str] = []
    for block in blocks("python"):
        foreign = FOREIGN.search(block)
        if (foreign.group(1) if foreign else None) in (names or (None,)):
            found.append(block)
    return found


def run(python: str, program: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GPU_SUPERVISOR")}
    done = subprocess.run(
        [python, "-c", program],
        env={**environment, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("program", needing())
def test_what_needs_the_standard_library_alone_runs(program: str) -> None:
    run(sys.executable, program)


def test_the_programs_are_those_that_are_meant() -> None:
    assert (len(needing()), len(needing("torch")), len(needing("optuna"))) == (6, 1, 1)


@pytest.mark.slow
def test_what_needs_torch_runs(torch_python: str) -> None:
    for program in needing("torch"):
        run(torch_python, program)


@pytest.mark.slow
def test_what_needs_optuna_runs(optuna_python: str) -> None:
    for program in needing("optuna"):
        assert run(optuna_python, program) == "[None, None, None, None, None]\n"


def test_what_needs_llama_cpp_python_is_sound_python_and_uses_what_is_there() -> None:
    [program] = needing("llama_cpp")
    compile(program, "docs/guard.md", "exec")
    imported = re.findall(r"^from supervisor\.guard import .*$", program, re.MULTILINE)
    assert len(imported) == 1
    run(sys.executable, imported[0])


def test_the_ten_lines_of_the_readme_run() -> None:
    [program] = blocks("python", "README.md")
    assert len(program.splitlines()) <= 12
    run(sys.executable, program)


def test_the_configuration_shown_is_good(tmp_path: Path) -> None:
    [shown] = blocks("yaml")
    file = tmp_path / "config.yaml"
    file.write_text(shown, encoding="utf-8")
    loaded = load(file)
    assert (loaded.faults, loaded.later) == ((), ())
    assert loaded.plan is not None
    assert list(loaded.plan.workers) == ["server"]
