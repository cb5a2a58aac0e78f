"""The drop-ins of a unit: what an admin has laid over it, in the order in which systemd reads it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

# Where systemd looks, the first winning: "System Unit Search Path" of systemd.unit(5), as of version 252.
SEARCHED: Final = (
    "etc/systemd/system.control",
    "run/systemd/system.control",
    "run/systemd/transient",
    "run/systemd/generator.early",
    "etc/systemd/system",
    "etc/systemd/system.attached",
    "run/systemd/system",
    "run/systemd/system.attached",
    "run/systemd/generator",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "run/systemd/generator.late",
)


def find_drop_ins(unit: str, root: Path = Path("/")) -> tuple[Path, ...]:
    """Return the drop-ins of a unit, by the names of their files; of two of one name the first found counts.

    Raises OSError where a directory cannot be read.
    """
    found: dict[str, Path] = {}
    for directory in _directories(unit, root):
        try:
            files = sorted(directory.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            continue
        for file in files:
            if file.name.endswith(".conf") and not file.name.startswith(".") and file.is_file():
                found.setdefault(file.name, file)
    return tuple(found[name] for name in sorted(found))


def _directories(unit: str, root: Path) -> Iterator[Path]:
    """Yield every directory that may hold drop-ins; those of the whole type come after all others."""
    stem, _, kind = unit.rpartition(".")
    for searched in SEARCHED:
        yield from (root / searched / f"{name}.{kind}.d" for name in _names(stem))
    yield from (root / searched / f"{kind}.d" for searched in SEARCHED)


def _names(stem: str) -> Iterator[str]:
    """Yield `a-b-c`, `a-b-` and `a-`, the most special first."""
    yield stem
    at = len(stem)
    while (at := stem.rfind("-", 0, at)) > 0:
        if at + 1 < len(stem):
            yield stem[: at + 1]
