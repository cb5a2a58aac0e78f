"""llama.cpp's own reckoning, `llama-fit-params -fitp on`: what it is asked, and what it answers. Pure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from supervisor.llama.settings import Settings

PROGRAM: Final = "llama-fit-params"
HOST: Final = "Host"
_FIGURES: Final = 3  # model, context, compute: whole MiB, rounded down
_DIGITS: Final = 9


class DeviceFit(Struct, frozen=True):
    """What one device takes, named as llama.cpp names it: `CUDA0`, `Host`."""

    device: str
    model_bytes: int
    context_bytes: int
    compute_bytes: int


def fit_params_words(program: str, model: Path, settings: Settings) -> list[str]:
    """Return the command that asks; it takes no -kvu, and has slots apart."""
    words = [program, "-m", str(model), "-fitp", "on", "-fit", "off", "-c", str(settings.ctx)]
    words += ["-ngl", str(settings.n_gpu_layers), "-b", str(settings.batch), "-ub", str(settings.ubatch)]
    words += ["-np", str(settings.slots), "-ctk", settings.cache_k, "-ctv", settings.cache_v]
    if settings.cpu_moe_layers:
        words += ["--n-cpu-moe", str(settings.cpu_moe_layers)]
    if len(settings.shares) > 1:
        words += ["-ts", ",".join(f"{share:g}" for share in settings.shares)]
    return words


def read_fit_params(lines: Sequence[str]) -> tuple[DeviceFit, ...]:
    """Read what it prints, `CUDA0 4685 448 258`: a line a device; others are passed over."""
    found: list[DeviceFit] = []
    for line in lines:
        name, *figures = line.rsplit(maxsplit=_FIGURES) or [""]
        if len(figures) == _FIGURES and all(_is_whole(one) for one in figures):
            model, context, compute = (int(one) << 20 for one in figures)
            found.append(DeviceFit(name, model, context, compute))
    return tuple(found)


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS
