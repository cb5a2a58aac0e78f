"""Build the Debian package of this checkout, for the machine to install."""

import os
import subprocess
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[3]
BUILD_TIMEOUT_S: Final = 300  # 10 s where pip has its wheels cached


def build_package(folder: Path, revision: str = "") -> Path:
    """Build the package into `folder`; raises RuntimeError with what scripts/build-deb has to say."""
    command = [str(CHECKOUT / "scripts/build-deb"), "--output", str(folder)]
    command += ["--revision", revision] if revision else []
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHON"
    }  # the distribution's
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=BUILD_TIMEOUT_S
    )
    if done.returncode != 0:
        raise RuntimeError(f"cannot build the package:\n{done.stderr.strip()[-2000:]}")
    return Path(done.stdout.splitlines()[-1])
