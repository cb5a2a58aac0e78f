"""Fixtures for tests on real packages that are too large for the suite's own environment.

`torch_python`, `optuna_python` and `schemathesis_python` are the interpreters of virtual environments that
have them.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from support.cache import cache_dir

INSTALL: Final = Path(__file__).parent / "install_package"
INSTALL_TIMEOUT_S: Final = 1200
VERSIONS: Final = {"torch": "2.13.0", "optuna": "5.0.0", "schemathesis": "4.32.5"}
FAULTS = pytest.StashKey[dict[str, str]]()


def _venv(name: str) -> Path:
    return cache_dir() / f"{name}-{VERSIONS[name]}"


def _install(name: str) -> str:
    """Install one package; return why it could not be, or nothing."""
    done = subprocess.run(
        [str(INSTALL), str(_venv(name)), name, VERSIONS[name]],
        env={**os.environ, "PYTHON": sys.executable},
        text=True,
        capture_output=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
    )
    return " ".join(done.stderr.strip().splitlines()[-1:]) if done.returncode else ""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install before the first test, so that no test's time limit pays for it."""
    if not session.config.getoption("--install") or session.config.option.collectonly:
        return
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    wanted = [name for name in VERSIONS if f"{name}_python" in used]
    session.config.stash[FAULTS] = {name: fault for name in wanted if (fault := _install(name))}


def _python(name: str, config: pytest.Config, require: Callable[[object, str], None]) -> str:
    faults = config.stash.get(FAULTS, dict[str, str]())
    why = faults.get(name, "not installed (pytest --install, or scripts/test, does it)")
    require((_venv(name) / "made").exists(), f"{name}: {why}")
    return str(_venv(name) / "bin/python")


@pytest.fixture(scope="session")
def torch_python(pytestconfig: pytest.Config, require: Callable[[object, str], None]) -> str:
    """Return the interpreter of an environment with PyTorch."""
    return _python("torch", pytestconfig, require)


@pytest.fixture(scope="session")
def optuna_python(pytestconfig: pytest.Config, require: Callable[[object, str], None]) -> str:
    """Return the interpreter of an environment with Optuna."""
    return _python("optuna", pytestconfig, require)


@pytest.fixture(scope="session")
def schemathesis_python(pytestconfig: pytest.Config, require: Callable[[object, str], None]) -> str:
    """Return the interpreter of an environment with Schemathesis."""
    return _python("schemathesis", pytestconfig, require)
