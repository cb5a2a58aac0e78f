"""The real command line, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Ran(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


def environment(**changes: str) -> dict[str, str]:
    """Return an environment in which nothing of this machine's user is found."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("GPU_SUPERVISOR_", "XDG_"))
    }
    kept.pop("NO_COLOR", None)
    return {**kept, "PYTHONPATH": str(ROOT), "TZ": "UTC", "COLUMNS": "80", **changes}


def gpu_supervisor(*words: str, control: Path | None = None, env: Mapping[str, str] | None = None) -> Ran:
    """Run one command to its end."""
    found = environment(**(env or {}))
    if control is not None:
        found["GPU_SUPERVISOR_CONTROL"] = str(control)
    done = subprocess.run(
        [sys.executable, "-m", "supervisor.cli.main", *words],
        env=found,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
