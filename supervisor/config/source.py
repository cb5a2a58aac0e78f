"""Reads the bytes of a configuration file, and refuses what is no such file."""

import os
import stat
from pathlib import Path
from typing import Final

LARGEST_BYTES: Final = 1 << 20  # a thousand workers written out are 200 kB


def read_source(path: Path) -> tuple[str, str]:
    """Return (text, why not); exactly one of them is not empty, an empty file being refused."""
    try:
        data = _data(path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return "", f"cannot read it: {why}"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return "", f"cannot read it: line {line} is not UTF-8"
    if not text.strip():
        return "", "the file is empty: it needs at least 'workers: {}'"
    return text, ""


def _data(path: Path) -> bytes:
    """Return the bytes; raise OSError or ValueError. Never waits: a FIFO is opened and refused."""
    with open(path, "rb", opener=_opened) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is not a regular file")
        data = file.read(LARGEST_BYTES + 1)
    if len(data) > LARGEST_BYTES:
        raise ValueError("it is larger than 1 MiB")
    return data


def _opened(path: str, flags: int) -> int:
    """Open without waiting for the other end of a FIFO."""
    return os.open(path, flags | os.O_NONBLOCK)
