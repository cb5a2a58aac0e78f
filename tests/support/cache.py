"""Where tests keep what takes long to install: outside the checkout, shared by runs, never required."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the directory, below XDG_CACHE_HOME; it may not exist yet."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if given.startswith("/") else Path.home() / ".cache"
    return base / "gpu-supervisor-tests"
