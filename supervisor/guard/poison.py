"""How a worker ends whose GPU context is lost."""

import contextlib
import os
import sys
import threading
import time
from typing import Final, NoReturn

from supervisor.guard.report import Supervisor, supervised
from supervisor.guard.wire import text

EXIT_POISONED: Final = 79  # the first after those of sysexits.h, so that no shell and no signal means it
LAST_WORDS_S: Final = 2.0
_TRIES: Final = 50
_PAUSE_S: Final = 0.01  # the supervisor reads 16 messages in 50 ms


def leave(error: BaseException | str, supervisor: Supervisor | None = None) -> NoReturn:
    """Tell the supervisor, flush logs and streams, and end the process with exit code 79, from any thread.

    By `os._exit`, and not `sys.exit`: that raises SystemExit, which ends only the thread it is raised in,
    and which an event loop or a bare `except` keeps; and where it does end the process, destructors run that
    wait for a context that answers no more. So no `finally`, `atexit` or destructor runs. What is to be
    told and flushed has 2 s, in a thread of its own: a log or a pipe that another thread is stuck in does not
    keep the process.
    """
    try:
        said = _named(error)
        words = threading.Thread(target=_last_words, args=(said, supervisor), daemon=True)
        words.start()
        words.join(LAST_WORDS_S)
    finally:
        os._exit(EXIT_POISONED)


def _last_words(said: str, supervisor: Supervisor | None) -> None:
    with contextlib.suppress(Exception):  # of each: the next is to be tried, and there is nobody left to tell
        _tell(said, supervisor or supervised())
    with contextlib.suppress(Exception):
        _log(said)
    _flush_streams()


def _tell(said: str, supervisor: Supervisor) -> None:
    for _ in range(_TRIES):  # this one is no state that the next report would carry: none follows
        if not supervisor.active or supervisor.poisoned(said):
            return
        time.sleep(_PAUSE_S)


def _log(said: str) -> None:
    import logging  # noqa: PLC0415 - as in events

    logging.getLogger("supervisor.guard").critical("the GPU context is lost, leaving: %s", said)
    logging.shutdown()


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # closed, or None where there is no terminal
            continue


def _named(error: BaseException | str) -> str:
    """Return the first line of an error after its type, in 200 characters."""
    if isinstance(error, str):
        return text(error)
    try:
        said = str(error).partition("\n")[0]
    except Exception:  # noqa: BLE001 - it may ask the device
        said = ""
    return text(f"{type(error).__name__}: {said}")
