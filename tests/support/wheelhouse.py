"""What `install.sh --wheels` installs from: the pinned packages, downloaded once into the cache."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Final

from support.cache import cache_dir

CHECKOUT: Final = Path(__file__).resolve().parents[2]
LOCKS: Final = ("requirements/build.txt", "requirements/run.txt")
DOWNLOAD_S: Final = 300


def wheels(python: str) -> Path:
    """Return where the packages for this Python, such as `3.11`, are kept; they may not be there."""
    locks = b"".join((CHECKOUT / lock).read_bytes() for lock in LOCKS)
    return cache_dir() / f"wheels-{python}-{hashlib.sha256(locks).hexdigest()[:12]}"


def download(python: str) -> Path:
    """Download what is not there yet, as docs/install.md tells it; raises RuntimeError with why."""
    directory = wheels(python)
    if directory.is_dir():
        return directory
    new = directory.with_name(f"{directory.name}.new")
    new.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    # To look at sdnotify, which is source only, the pinned setuptools of this environment will do.
    command += ["--no-build-isolation", "--require-hashes", "--python-version", python, "--dest", str(new)]
    for lock in LOCKS:
        command += ["--requirement", lock]
    done = subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, timeout=DOWNLOAD_S, check=False
    )
    if done.returncode:
        raise RuntimeError(" ".join(done.stderr.strip().splitlines()[-1:]))
    new.rename(directory)
    return directory
