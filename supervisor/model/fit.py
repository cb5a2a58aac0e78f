"""What a llama.cpp server needs, reckoned from its model and its command before it is started."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from supervisor.model.plan import Setting
from supervisor.model.rungs import Rungs

AUTO: Final = "auto"
AUTO_SETTINGS: Final = ("n_gpu_layers", "ctx")
"""The settings of a llama.cpp server that are chosen at each start where their value is `auto`."""
LLAMA_SERVER: Final = "llama-server"
GPU_RESERVE_BYTES: Final = 1 << 30
"""What a choice leaves free on each GPU, as llama.cpp's own --fit does (--fit-target)."""


class Fit(Struct, frozen=True):
    """One way to start a llama.cpp server: the settings that are `auto`, chosen, and what it then needs.

    `memory_bytes` is what `memory.cap` would count once it is up; the prompt cache, which grows later, is not
    in it.
    """

    settings: Mapping[str, Setting] = {}
    memory_bytes: int | None = None
    mapped_bytes: int = 0  # weights in RAM, pages of the file
    vram_bytes: tuple[int, ...] = ()  # on each of its GPUs, in their order
    assumed: str | None = None  # why this could not be reckoned, where it is a cautious guess
    prompt_cache_bytes: int = 0  # as far as it may grow
    is_cache_written: bool = False  # else its limit is llama-server's own, which nobody has chosen

    @property
    def promised_cache_bytes(self) -> int:
        """Return the prompt cache that somebody has asked for."""
        return self.prompt_cache_bytes if self.is_cache_written else 0


class Reckoning(Struct, frozen=True):
    """What was asked about a worker before a start, and what is known of it."""

    key: str  # of what was to be started
    asked_s: float
    lives: int  # of the worker until then: asked once before each
    gpus: tuple[str, ...] = ()  # the UUIDs that `vram_bytes` of each fit stand for; empty: any
    shares: tuple[int, ...] = ()  # of these GPUs in the layers
    answered: bool = False
    fits: tuple[Fit, ...] = ()  # best first; one where nothing is to be chosen
    missing: str | None = None  # why it could not be reckoned
    rungs: Rungs = Rungs()  # what may follow where it runs out of memory, and no ladder is written


def is_llama_server(preset: str | None, command: Sequence[str]) -> bool:
    """Say whether a worker is a llama.cpp server, by its preset or the name of its program."""
    return preset == LLAMA_SERVER or (bool(command) and command[0].rpartition("/")[2] == LLAMA_SERVER)


def is_auto(name: str, value: Setting) -> bool:
    """Say whether the value of a setting is to be chosen at each start."""
    return name in AUTO_SETTINGS and value == AUTO
