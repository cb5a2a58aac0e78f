"""A daemon of its own for each test that wants one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import Daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    folder = tmp_path / "daemon"
    folder.mkdir()
    made = Daemon(folder)
    yield made
    made.close()
