"""What a worker that ended by itself died of, as its own last words tell."""

from enum import StrEnum

from msgspec import Struct


class Death(StrEnum):
    """The first cause of an end; whether it was loading or serving, who watches it knows better."""

    VRAM_OOM = "vram-oom"  # a GPU had no memory left
    HOST_OOM = "host-oom"  # the machine, or a limit on the worker, refused it memory
    BAD_MODEL = "bad-model"  # the model is missing, damaged, or nothing that this server knows
    BAD_ARGUMENTS = "bad-arguments"
    PORT_IN_USE = "port-in-use"
    POISONED = "poisoned"  # its context on the GPU is lost; a new process has a new one
    HARDWARE = "hardware"  # the GPU itself is at fault


class Verdict(Struct, frozen=True):
    """A cause, and the line that says so."""

    death: Death
    line: str
