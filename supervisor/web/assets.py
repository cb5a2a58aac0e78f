"""The dashboard's files, read once: they are few, and afterwards the process needs no file any more."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

FOLDER: Final = Path(__file__).parent / "dashboard"
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".txt": "text/plain; charset=utf-8",
}


class Asset(Struct, frozen=True):
    """One file."""

    content: bytes
    media_type: str
    tag: str  # its ETag


def read_assets(folder: Path = FOLDER) -> Mapping[str, Asset]:
    """Return every file by its path below the folder; none where there is no folder."""
    found: dict[str, Asset] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            content = path.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
            kind = TYPES.get(path.suffix, "text/plain; charset=utf-8")
            found[path.relative_to(folder).as_posix()] = Asset(content, kind, tag)
    return found
