"""The versions of the two halves of the NVIDIA driver: its module in the kernel, its library for programs."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from supervisor.cli.diagnose.facts import Driver
from supervisor.model.reading import Missing

WITHIN_S: Final = 10.0
MODULE: Final = re.compile(r"NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s")
LIBRARY: Final = re.compile(r"libnvidia-ml\.so\.(\d+\.\d+(?:\.\d+)?)$")


def read_driver(proc: Path = Path("/proc")) -> Driver:
    """Read both versions, none of them by asking the driver."""
    return Driver(_module(proc), _library())


def _module(proc: Path) -> str | Missing:
    path = proc / "driver/nvidia/version"
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return Missing("the NVIDIA kernel module is not loaded")
    except OSError as error:
        return Missing(f"cannot read {path}: {error.strerror}")
    found = MODULE.search(text)
    return found[1] if found else Missing(f"cannot read {path}: it names no version")


def _library() -> str | Missing:
    """Have another process load the library, as it would be loaded here, and name the file that it is."""
    command = (sys.executable, "-m", "supervisor.sense.gpu.library")
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Missing(f"libnvidia-ml.so.1 was not loaded within {WITHIN_S:g} s")
    except OSError as error:
        return Missing(f"cannot look for libnvidia-ml.so.1: {error.strerror}")
    path = done.stdout.strip()
    if done.returncode != 0 or not path:
        return Missing("libnvidia-ml.so.1 is not installed")
    found = LIBRARY.search(path)
    return found[1] if found else Missing(f"{path} has no version in its name")
