"""The kernel's log since boot: from /dev/kmsg where it may be read, else from journald."""

import errno
import os
import re
import time
from pathlib import Path
from typing import Final

from supervisor.act.journalctl import run_journalctl
from supervisor.cli.diagnose.facts import KernelLine, KernelLog
from supervisor.model.reading import Missing

KMSG: Final = Path("/dev/kmsg")
RECORD_BYTES: Final = 8192  # a read returns one record, and fails where it does not fit
MOST_RECORDS: Final = 200_000  # a log that is written faster than it is read must end somewhere
MOST_BYTES: Final = 8 << 20
WITHIN_S: Final = 10.0
JOURNAL: Final = ("--dmesg", "--boot", "--quiet", "--no-pager", "--output=short-unix")
LOGGED: Final = re.compile(r"(\d+\.\d+) \S+ kernel: (.*)")


def read_kernel_log(kmsg: Path = KMSG) -> KernelLog | Missing:
    """Read all that is kept."""
    try:
        return KernelLog(str(kmsg), tuple(_records(kmsg)))
    except OSError as error:
        why = f"cannot read {kmsg}: {error.strerror}"
    try:
        out = run_journalctl(
            JOURNAL, MOST_BYTES, time.monotonic() + WITHIN_S, os.environ.get("PATH", os.defpath)
        )
    except OSError as error:
        return Missing(f"{why}; {error}")
    lines = tuple(_logged(line) for line in out.decode(errors="replace").splitlines())
    return (
        KernelLog("the journal", lines) if lines else Missing(f"{why}; the journal shows us no kernel line")
    )


def _records(kmsg: Path) -> list[KernelLine]:
    """Read records until there is no more; raises OSError where the first cannot be read."""
    boot_wall_s = time.time() - time.monotonic()
    found: list[KernelLine] = []
    descriptor = os.open(kmsg, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while len(found) < MOST_RECORDS:
            try:
                record = os.read(descriptor, RECORD_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.EPIPE:  # overwritten while it was read: the next is there
                    continue
                raise
            if not record:
                break
            found.extend(_parsed(record, boot_wall_s))
    finally:
        os.close(descriptor)
    return found


def _parsed(data: bytes, boot_wall_s: float) -> list[KernelLine]:
    """Read records of the form `6,1234,5678901,-;text`, the third the microseconds since boot."""
    found: list[KernelLine] = []
    for line in data.decode(errors="replace").splitlines():
        head, semicolon, text = line.partition(";")
        fields = head.split(",")
        if not semicolon or line.startswith(" ") or len(fields) < 3 or not fields[2].isdigit():  # noqa: PLR2004
            continue  # of a record's dictionary
        found.append(KernelLine(boot_wall_s + int(fields[2]) / 1e6, text))
    return found


def _logged(line: str) -> KernelLine:
    found = LOGGED.match(line)
    return KernelLine(float(found[1]), found[2]) if found else KernelLine(None, line)
