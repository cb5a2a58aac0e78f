"""The files of workers' units, below /run: gone with the machine's next start, as the workers are."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from supervisor.act.refusal import CannotLaunchError
from supervisor.sense.procfs import RUN_VARIABLE
from supervisor.systemd.units import Unit, worker_of

UNIT_DIRECTORY: Final = Path("/run/systemd/system")
UNIT_MODE: Final = 0o644
ENVIRONMENT_MODE: Final = 0o600
LARGEST_BYTES: Final = 1 << 20


class UnitFiles:
    """Unit files, and beside them what changes from life to life: one file of variables for each worker."""

    def __init__(self, environments: Path, units: Path = UNIT_DIRECTORY) -> None:
        """Keep them in these directories, made where they are missing. Raises OSError."""
        environments.mkdir(mode=0o755, parents=True, exist_ok=True)
        units.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._environments = environments
        self._units = units

    def put(self, unit: Unit) -> bool:
        """Write a unit where it differs; return whether it did. Raises OSError."""
        path = self._units / unit.name
        text = unit.text.encode()
        if _read(path) == text:
            return False
        _write(path, text, UNIT_MODE)
        return True

    def has(self, unit: Unit) -> bool:
        """Tell whether a unit stands there as it is. Raises OSError."""
        return _read(self._units / unit.name) == unit.text.encode()

    def workers(self) -> frozenset[str]:
        """Return the workers that have a unit file here. Raises OSError."""
        names = (worker_of(path.name) for path in self._units.glob("gpu-worker-*.service"))
        return frozenset(name for name in names if name is not None)

    def remove(self, unit: str, worker: str) -> None:
        """Remove the files of a worker. Raises OSError."""
        (self._units / unit).unlink(missing_ok=True)
        self._environment(worker).unlink(missing_ok=True)

    def write_environment(self, worker: str, variables: Mapping[str, str]) -> None:
        """Write what the worker's next life is told.

        Raises OSError, and CannotLaunchError for a value of several lines.
        """
        lines = [f'{name}="{_escaped(name, value)}"\n' for name, value in sorted(variables.items())]
        _write(self._environment(worker), "".join(lines).encode(), ENVIRONMENT_MODE)

    def run_of(self, worker: str) -> str | None:
        """Return the run that the worker was last started for. Raises OSError."""
        text = _read(self._environment(worker)) or b""
        for line in text.decode(errors="replace").splitlines():
            name, _, value = line.partition("=")
            if name == RUN_VARIABLE:
                return value.strip('"')
        return None

    def _environment(self, worker: str) -> Path:
        return self._environments / f"{worker}.env"


def _escaped(name: str, value: str) -> str:
    """Escape a value for double quotes, as EnvironmentFile= of systemd.exec(5) reads them."""
    if "\n" in value or "\0" in value:
        raise CannotLaunchError(f"cannot hand over {name}: it has several lines", hopeless=True)
    return "".join(f"\\{c}" if c in '"\\`$' else c for c in value)


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_BYTES)
    except FileNotFoundError:
        return None


def _write(path: Path, text: bytes, mode: int) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(text)
    fresh.replace(path)
