"""The journal of a worker that is a unit, as journalctl shows it to whoever asks."""

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Final

from supervisor.act.journalctl import printed_by, run_journalctl
from supervisor.cli.command import CommandError

ANSWER_S: Final = 30.0  # a journal of years, on a slow disk
KEPT: Final = (Path("/run/log/journal"), Path("/var/log/journal"))
SYSTEM: Final = "*/system*.journal"
MOST_LINES: Final = (1 << 31) - 1  # journalctl takes no more


class WorkerJournal:
    """What one worker printed. What fails is a CommandError `cannot DOING: why`."""

    def __init__(self, worker: str, doing: str, kept: tuple[Path, ...] = KEPT) -> None:
        """Ask nothing yet. The journals of machines are in the folders `kept`."""
        self._worker = worker
        self._doing = doing
        self._kept = kept

    def has_lines(self) -> bool:
        """Tell whether the journal holds a line of the worker."""
        try:
            words = ("--lines=1", *printed_by(self._worker))
            found = run_journalctl(words, 1, time.monotonic() + ANSWER_S, os.environ.get("PATH", os.defpath))
        except OSError as error:
            if self._is_closed_to_us():
                raise self._refused() from error
            raise CommandError(f"cannot {self._doing}: {error}") from error
        if not found and self._is_closed_to_us():  # without a right to it, journalctl shows an empty one
            raise self._refused()
        return bool(found)

    def show(self, lines: int, *, follow: bool) -> None:
        """Become journalctl, which prints the last lines and with `follow` goes on; does not return."""
        program = shutil.which("journalctl")
        if program is None:
            raise CommandError(f"cannot {self._doing}: there is no journalctl in PATH")
        sys.stdout.flush()
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what it becomes would too
        count = f"--lines={min(lines, MOST_LINES)}"
        words = (program, *(("--follow",) if follow else ()), count, *printed_by(self._worker))
        os.execv(program, words)  # noqa: S606 - that no shell reads a worker's name is what is wanted

    def _is_closed_to_us(self) -> bool:
        found = [path for folder in self._kept for path in folder.glob(SYSTEM)]
        return bool(found) and not any(os.access(path, os.R_OK) for path in found)

    def _refused(self) -> CommandError:
        why = "no permission to read the journal; be a member of group 'systemd-journal', or use sudo"
        return CommandError(f"cannot {self._doing}: {why}")
