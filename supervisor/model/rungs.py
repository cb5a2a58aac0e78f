"""Rungs of a ladder that nobody has written: made from the reckoning, each for the memory that ran out."""

from collections.abc import Mapping

from msgspec import Struct

from supervisor.model.plan import Setting


class MadeRung(Struct, frozen=True):
    """How a llama.cpp server is started on a made rung: the whole command and all its settings.

    `was` is what settings that this rung was the first to need came to before. The last two are what was
    reckoned of the memory that ran out, before and now.
    """

    command: tuple[str, ...]  # with {setting} still in braces
    settings: Mapping[str, Setting]
    was: Mapping[str, Setting] = {}
    before_bytes: int = 0
    needs_bytes: int = 0
    slot_ctx: tuple[int, int] = (0, 0)  # what one request may be as long as, before and now
    on_cpu: bool = False


class Rungs(Struct, frozen=True):
    """What may follow the settings that were reckoned, by what runs out; None where nothing helps."""

    device: MadeRung | None = None  # memory of a GPU
    loading: MadeRung | None = None  # of the host, before the prompt cache has grown
    serving: MadeRung | None = None  # of the host, with it
    shared: MadeRung | None = None  # of a GPU that shares the host's
    cpu: MadeRung | None = None  # no layer on a GPU
