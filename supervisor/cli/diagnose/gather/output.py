"""The last lines that workers printed, from their journals or their files."""

import os
import re
import time
from pathlib import Path
from typing import Final

from supervisor.act.journalctl import printed_by, run_journalctl
from supervisor.cli.command import CommandError
from supervisor.cli.journal import WorkerJournal
from supervisor.cli.log_file import LogFile
from supervisor.model.reading import Missing

MOST_BYTES: Final = 256 << 10
WITHIN_S: Final = 5.0
ALL_WITHIN_S: Final = 10.0
ESCAPES: Final = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]"
)  # colours, which may stand in the middle of a secret


def read_output(
    units: tuple[str, ...], files: tuple[str, ...], log_dir: Path, lines: int
) -> dict[str, tuple[str, ...] | Missing]:
    """Return the last `lines` of the workers `units` from their journals and of `files` from their files."""
    until_s = time.monotonic() + ALL_WITHIN_S
    found: dict[str, tuple[str, ...] | Missing] = {}
    for worker in (*files, *units):
        if time.monotonic() > until_s:
            found[worker] = Missing(f"left out: those before it took {ALL_WITHIN_S:g} s")
        elif worker in files:
            found[worker] = _from_file(log_dir / f"{worker}.log", lines)
        else:
            found[worker] = _from_journal(worker, lines)
    return found


def _from_journal(worker: str, lines: int) -> tuple[str, ...] | Missing:
    words = (f"--lines={lines}", *printed_by(worker))
    try:
        search = os.environ.get("PATH", os.defpath)
        found = _lines(run_journalctl(words, MOST_BYTES, time.monotonic() + WITHIN_S, search))
        if not found:  # without a right to it, journalctl shows an empty one
            WorkerJournal(worker, "read the journal").has_lines()
    except (OSError, CommandError) as error:
        return Missing(str(error))
    return found


def _from_file(path: Path, lines: int) -> tuple[str, ...] | Missing:
    try:
        with LogFile(path) as log:
            return _lines(log.last(lines)[-MOST_BYTES:])
    except FileNotFoundError:
        return Missing(f"it has printed nothing yet ({path})")
    except OSError as error:
        return Missing(f"cannot read {path}: {error.strerror}")


def _lines(data: bytes) -> tuple[str, ...]:
    return tuple(ESCAPES.sub("", data.decode(errors="replace")).splitlines())
