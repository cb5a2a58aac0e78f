"""Histories for tests: one that is told things, and a disk that fills or refuses."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from supervisor.daemon.history import History
from supervisor.model.action import Notice
from supervisor.model.phase import Cause

T0 = 1_800_000_000.0


def notice(incident: str, event: str = "worker stopping", *, outcome: str | None = None) -> Notice:
    return Notice(
        level="warning",
        event=event,
        reason="8.2 GiB, cap 8 GiB",
        worker="chat",
        cause=Cause.MEMORY_CAP,
        incident=incident,
        outcome=outcome,
        fields={"memory_bytes": 8_804_682_956},
    )


@contextmanager
def history(path: Path, warnings: list[str] | None = None, **options: float) -> Generator[History]:
    kept = History(
        path,
        (lambda _: None) if warnings is None else warnings.append,
        max_bytes=int(options.get("max_bytes", 64 << 20)),
        retry_s=options.get("retry_s", 60.0),
        now=lambda: options.get("now", T0),
    )
    kept.start()
    try:
        yield kept
    finally:
        kept.close(10.0)


def wait_for(met: Callable[[], bool], within_s: float = 15.0) -> None:
    end_s = time.monotonic() + within_s
    while not met():
        assert time.monotonic() < end_s, "it did not come about in time"
        time.sleep(0.01)


def in_mount_namespace(script: str, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    """Run a Python script where it may mount; None where this machine does not allow that."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return None
    way = ["--mount"] if os.getuid() == 0 else ["--user", "--map-root-user", "--mount"]
    trial = subprocess.run(
        [unshare, *way, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False, timeout=20
    )
    if trial.returncode != 0:
        return None
    return subprocess.run(
        [unshare, *way, sys.executable, "-W", "error", "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
