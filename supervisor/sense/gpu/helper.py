"""The helper process: `python -m supervisor.sense.gpu.helper [PROC]`; wire.py tells what it speaks.

A call into the driver can hang for ever and cannot be interrupted; a process can be abandoned. It ends when
its stdin closes, and where there is no driver or no GPU it says so and ends at once.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from supervisor.sense.gpu.wire import NO_BINDINGS, NO_GPU, Fault, Line, Request

PR_SET_PDEATHSIG: Final = 1


def main(arguments: Sequence[str]) -> int:
    """Serve until stdin closes; return the exit status."""
    answers = _take_stdout()
    _die_with_parent()
    try:
        fault = _begin()
        if fault is not None:
            _tell(answers, Line(fault=fault))
            return 0
        _tell(answers, Line(ready=True))
        _serve(answers, Path(arguments[0] if arguments else "/proc"))
    except BrokenPipeError:  # the daemon is gone
        return 0
    return 0


def _begin() -> Fault | None:
    try:
        from supervisor.sense.gpu import nvml  # noqa: PLC0415 - a missing package is an answer, not a traceback
    except ImportError as error:
        return Fault(code=NO_BINDINGS, text=str(error))
    try:
        nvml.begin()
        number = nvml.count()
    except nvml.DriverError as error:
        return Fault(code=error.code, text=str(error))
    return None if number else Fault(code=NO_GPU, text="no GPU is listed")


def _serve(answers: int, proc: Path) -> None:
    from supervisor.sense.gpu import nvml, reading  # noqa: PLC0415 - proved to be importable by now

    facts = reading.host_facts(proc)
    for text in sys.stdin.buffer:
        request: Request = json.loads(text)
        number = request["round"]
        try:
            indices = range(nvml.count())
        except nvml.DriverError as error:
            _tell(answers, Line(round=number, fault=Fault(code=error.code, text=str(error))))
            continue
        last = set(request["last"])
        order = sorted(set(indices) - set(request["skip"]), key=lambda index: (index in last, index))
        _tell(answers, Line(round=number, order=order))
        for index in order:
            _tell(answers, Line(round=number, gpu=reading.read_gpu(index, facts)))
        _tell(answers, Line(round=number, end=True))
    with contextlib.suppress(nvml.DriverError):  # it ends in any case
        nvml.end()


def _tell(answers: int, line: Line) -> None:
    """Write one line at once: what was read before a hang counts."""
    data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
    while data:
        data = data[os.write(answers, data) :]


def _take_stdout() -> int:
    """Keep stdout for the answers alone: what a native library prints goes to stderr."""
    answers = os.dup(1)
    os.dup2(2, 1)
    return answers


def _die_with_parent() -> None:
    """End with the daemon even while a driver call hangs, when a closed stdin would not be seen."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
