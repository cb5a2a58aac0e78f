"""Asks llama.cpp's own tool what a server needs, where it is installed; `recommend` goes on without it."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final

from msgspec import Struct

from supervisor.llama.fit_params import HOST, PROGRAM, DeviceFit, fit_params_words, read_fit_params
from supervisor.llama.model import Model
from supervisor.llama.recommend import Choice
from supervisor.llama.room import Room

# It reads no weights, but initialises every GPU: seconds where no one keeps the driver loaded.
WITHIN_S: Final = 20.0
_QUOTED: Final = 200


class Second(Struct, frozen=True):
    """What the tool says, the host apart from the GPUs; or why it said nothing."""

    program: str
    host: DeviceFit | None = None
    devices: tuple[DeviceFit, ...] = ()
    missing: str | None = None


class Shown(Struct, frozen=True):
    """What `recommend` has to show of a model."""

    free: Room
    model: Model
    choice: Choice
    worker: str
    second: Second | None


def ask_fit_params(model: Path, choice: Choice, within_s: float = WITHIN_S) -> Second | None:
    """Return what llama-fit-params says of the settings that were chosen; None where it is not installed."""
    program = shutil.which(PROGRAM)
    if program is None:
        return None
    seen = ",".join(gpu.uuid for gpu in choice.gpus)
    # Else it has gdb print where it failed, which takes seconds.
    quiet = {"GGML_NO_BACKTRACE": "1", "CUDA_VISIBLE_DEVICES": seen, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    try:
        code, out, err = _run(fit_params_words(program, model, choice.settings), quiet, within_s)
    except subprocess.TimeoutExpired:
        return Second(program, missing=f"it did not answer within {within_s:g} s")
    except OSError as error:
        return Second(program, missing=f"cannot run it: {error.strerror}")
    found = read_fit_params(out.splitlines())
    if code or not found:
        why = next((line.strip() for line in reversed(err.splitlines()) if line.strip()), "it said nothing")
        return Second(program, missing=f"it ended with status {code}: {why[:_QUOTED]}")
    host = next((one for one in found if one.device == HOST), None)
    return Second(program, host, tuple(one for one in found if one.device != HOST))


def _run(words: list[str], more: dict[str, str], within_s: float) -> tuple[int, str, str]:
    """Run it to its end, or kill it with all that it started; raises OSError and TimeoutExpired."""
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **more},
        start_new_session=True,
        text=True,
        errors="replace",
    ) as process:
        try:
            out, err = process.communicate(timeout=within_s)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, out, err
