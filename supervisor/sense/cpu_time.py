"""The CPU time that processes have used."""

import os
from pathlib import Path
from typing import Final

from supervisor.model.reading import Missing
from supervisor.sense.procfs import read_file

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
USER_TICKS: Final = 11  # fields 14 and 15 of /proc/PID/stat, counted from the state
SYSTEM_TICKS: Final = 12
UNNUMBERED: Final = 0  # a process of a pid namespace that cannot be seen from here


def cpu_time_s(proc: Path, pids: tuple[int, ...]) -> float | Missing:
    """Return what `pids` have used together, user and system, all threads. About 10 us a process.

    One that is gone meanwhile is left out, so the sum can fall. Missing where one cannot be read.
    """
    ticks = 0
    found = False
    for pid in pids:
        try:
            data = read_file(f"{proc}/{pid}/stat")
        except OSError as error:
            return Missing(f"cannot read {proc}/{pid}/stat: {error.strerror}")
        fields = (data or b"").rpartition(b")")[2].split(None, SYSTEM_TICKS + 1)
        if len(fields) > SYSTEM_TICKS:
            found = True
            ticks += int(fields[USER_TICKS]) + int(fields[SYSTEM_TICKS])
    return (
        ticks / TICKS_PER_S if found and UNNUMBERED not in pids else Missing("its processes cannot be seen")
    )
