"""What a llama.cpp server tells of its work."""

from typing import Literal

from msgspec import Struct

from supervisor.model.reading import Missing


class SlotProgress(Struct, frozen=True):
    """How far one busy slot has come with its task; `model` is named by a router only."""

    slot: int
    task: int
    prompt_tokens: int  # read so far; moves by a whole batch, 2048 tokens unless told otherwise
    decoded_tokens: int
    model: str = ""


class Serving(Struct, frozen=True):
    """One look at a server that answers.

    `blocked` is one whose HTTP threads answer while its task queue does not: it computes, or it hangs.
    """

    state: Literal["up", "loading", "asleep", "blocked"]
    busy: int | Missing  # requests under way or waiting for a slot
    progress: tuple[SlotProgress, ...] | Missing  # of the busy slots
