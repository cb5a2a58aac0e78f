"""Fixture for tests on a real torch server: `torch_worker`."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.cache import cache_dir

HERE = Path(__file__).parent
VERSION = "2.13.0"
INSTALL_TIMEOUT_S = 1200
FAULT = pytest.StashKey[str]()


def _venv() -> Path:
    return cache_dir() / f"torch-{VERSION}"


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install before the first test, so that no test's time limit pays for it."""
    wanted = any("torch_worker" in getattr(item, "fixturenames", ()) for item in session.items)
    if not wanted or not session.config.getoption("--install") or session.config.option.collectonly:
        return
    done = subprocess.run(
        [str(HERE / "install"), str(_venv()), VERSION],
        env={**os.environ, "PYTHON": sys.executable},
        text=True,
        capture_output=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        session.config.stash[FAULT] = " ".join(done.stderr.strip().splitlines()[-1:])


@pytest.fixture(scope="session")
def torch_worker(pytestconfig: pytest.Config, require: Callable[[object, str], None]) -> list[str]:
    """Return the command of tests/support/torch/worker.py; a test adds the port and flags."""
    why = pytestconfig.stash.get(FAULT, "not installed (pytest --install, or scripts/test, does it)")
    require((_venv() / "made").exists(), f"torch: {why}")
    return [str(_venv() / "bin/python"), str(HERE / "worker.py")]
