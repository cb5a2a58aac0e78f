"""Fixture: the text of axe-core, which looks for what keeps people out of a page (https://github.com/dequelabs/axe-core).

It comes from the npm registry into the cache, and is what it was when its hash was written down.
"""

import hashlib
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from support.cache import cache_dir

VERSION: Final = "4.14.1"
SHA512: Final = (
    "1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b73"
    "4f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5"
)
MEMBER: Final = "package/axe.min.js"
FETCH_TIMEOUT_S: Final = 300


def _archive() -> Path:
    return cache_dir() / f"axe-core-{VERSION}.tgz"


def _is_right(archive: Path) -> bool:
    return archive.exists() and hashlib.sha512(archive.read_bytes()).hexdigest() == SHA512


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch it before the first test, so that no test's time limit pays for it."""
    if not session.config.getoption("--install") or session.config.option.collectonly:
        return
    used = any("axe" in getattr(item, "fixturenames", ()) for item in session.items)
    npm = shutil.which("npm")
    if not used or npm is None or _is_right(_archive()):
        return
    cache_dir().mkdir(parents=True, exist_ok=True)
    command = [npm, "pack", "--silent", f"axe-core@{VERSION}", "--pack-destination", str(cache_dir())]
    subprocess.run(command, cwd=cache_dir(), timeout=FETCH_TIMEOUT_S, check=False)


@pytest.fixture(scope="session")
def axe(require: Callable[[object, str], None]) -> str:
    """Return the script."""
    archive = _archive()
    require(
        _is_right(archive),
        f"axe-core {VERSION}: not fetched (npm and pytest --install, or scripts/test, do it)",
    )
    with tarfile.open(archive) as opened:
        member = opened.extractfile(MEMBER)
        assert member is not None
        return member.read().decode()
