"""Writes configurations into files and loads them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.config import Loaded, Machine, load

Check = Callable[[str], Loaded]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Load a text from a file named config.yaml, for a machine of 64 GiB and 8 cores."""

    def checked(text: str) -> Loaded:
        file = tmp_path / "config.yaml"
        file.write_text(text, encoding="utf-8")
        return load(file, machine=Machine(64 << 30, 8, "/usr/bin:/bin"))

    return checked


@pytest.fixture
def told(check: Check, tmp_path: Path) -> Callable[[str], list[str]]:
    """Load a text and return its faults as lines without the directory of the file."""
    return lambda text: [str(fault).removeprefix(f"{tmp_path}/") for fault in check(text).faults]


@pytest.fixture
def warned(check: Check, tmp_path: Path) -> Callable[[str], list[str]]:
    """Load a text that is free of faults and return its warnings as lines."""

    def warnings(text: str) -> list[str]:
        loaded = check(text)
        assert loaded.faults == ()
        return [str(warning).removeprefix(f"{tmp_path}/") for warning in loaded.warnings]

    return warnings
