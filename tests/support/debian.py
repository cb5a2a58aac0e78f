"""Fixtures for tests on real programs of Debian packages, unpacked into the cache and not installed."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from support.cache import cache_dir

UNPACK: Final = Path(__file__).parent / "unpack_debian"
UNPACK_TIMEOUT_S: Final = 600
PACKAGE_OF: Final = {"promtool": "prometheus", "prometheus": "prometheus"}  # by the fixture's name
FAULTS = pytest.StashKey[dict[str, str]]()


def _program(name: str) -> str | None:
    unpacked = cache_dir() / "debian" / PACKAGE_OF[name] / "usr/bin" / name
    return shutil.which(name) or (str(unpacked) if unpacked.exists() else None)


def _unpack(package: str) -> str:
    """Fetch one package; return why it could not be, or nothing."""
    done = subprocess.run(
        [str(UNPACK), package], text=True, capture_output=True, timeout=UNPACK_TIMEOUT_S, check=False
    )
    return " ".join(done.stderr.strip().splitlines()[-1:]) if done.returncode else ""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch before the first test, so that no test's time limit pays for it."""
    if not session.config.getoption("--install") or session.config.option.collectonly:
        return
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    wanted = {PACKAGE_OF[name] for name in used & {*PACKAGE_OF} if _program(name) is None}
    session.config.stash[FAULTS] = {name: fault for name in sorted(wanted) if (fault := _unpack(name))}


def _found(name: str, config: pytest.Config, require: Callable[[object, str], None]) -> str:
    faults = config.stash.get(FAULTS, dict[str, str]())
    why = faults.get(PACKAGE_OF[name], "not in PATH (pytest --install, or scripts/test, fetches it)")
    found = _program(name)
    require(found, f"{name}, of the Debian package {PACKAGE_OF[name]}: {why}")
    return found or ""


@pytest.fixture(scope="session")
def promtool(pytestconfig: pytest.Config, require: Callable[[object, str], None]) -> str:
    """Return Prometheus' own checker of metrics and rules."""
    return _found("promtool", pytestconfig, require)


@pytest.fixture(scope="session")
def prometheus(pytestconfig: pytest.Config, require: Callable[[object, str], None]) -> str:
    """Return the program of a Prometheus server."""
    return _found("prometheus", pytestconfig, require)
