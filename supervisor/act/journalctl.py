"""Asking journalctl for what a worker printed that is a service of systemd."""

import os
import selectors
import shutil
import subprocess
import time
from typing import Final

from supervisor.systemd.drain_unit import drain_unit
from supervisor.systemd.units import unit_name

SEARCH: Final = "/usr/bin:/bin:/run/current-system/sw/bin"  # for the daemon: no PATH that anyone may set
READ_BYTES: Final = 1 << 16


def printed_by(worker: str, invocation: str | None = None) -> tuple[str, ...]:
    """Return the words by which journalctl shows what a worker, or one life of it, printed, as it was.

    Unlike `--unit` they leave out what systemd has to say of the unit, which nobody could tell from the
    unit's own lines. With them comes what its drain command printed; that belongs to no one life. The
    names of units are journald's own word: nobody else can print under them.
    """
    unit = unit_name(worker)
    quiet = ("--quiet", "--no-pager", "--output=cat")
    if invocation:
        return (*quiet, f"_SYSTEMD_UNIT={unit}", f"_SYSTEMD_INVOCATION_ID={invocation}")
    return (*quiet, f"_SYSTEMD_UNIT={unit}", f"_SYSTEMD_UNIT={drain_unit(worker)}")


def run_journalctl(words: tuple[str, ...], most_bytes: int, until_s: float, search: str = SEARCH) -> bytes:
    """Run journalctl to its end, and return the last `most_bytes` that it printed.

    `until_s` is monotonic. Raises OSError, in words, where there is no journalctl, where it fails, and
    where it has not ended by then.
    """
    program = shutil.which("journalctl", path=search)
    if program is None:
        raise FileNotFoundError(f"cannot read the journal: there is no journalctl in {search}")
    process = subprocess.Popen(
        (program, *words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"LC_ALL": "C.UTF-8"},
        start_new_session=True,
    )
    with process:  # closes its pipes, and reaps it
        try:
            out, told = _both(process, most_bytes, until_s)
            code = process.wait(max(0.0, until_s - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            raise TimeoutError("cannot read the journal: journalctl did not end in time") from None
        finally:
            process.kill()
    if code != 0:
        why = told.decode(errors="replace").strip().partition("\n")[0] or f"journalctl ended with {code}"
        raise OSError(f"cannot read the journal: {why}")
    return out


def _both(process: subprocess.Popen[bytes], most_bytes: int, until_s: float) -> tuple[bytes, bytes]:
    """Read both outputs to their ends, and keep the last of each. Raises TimeoutError."""
    kept: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    with selectors.DefaultSelector() as selector:
        for name in kept:
            selector.register(getattr(process, name), selectors.EVENT_READ, name)
        while selector.get_map():
            ready = selector.select(until_s - time.monotonic())
            if not ready or time.monotonic() > until_s:
                raise TimeoutError
            for key, _ in ready:
                part = os.read(key.fd, READ_BYTES)
                if part:
                    kept[key.data] = (kept[key.data] + part)[-most_bytes:]
                else:
                    selector.unregister(key.fileobj)
    return kept["stdout"], kept["stderr"]
