"""Which GPUs hung or crashed the helper that read them, and when each is tried again. Pure."""

from collections.abc import Collection, Mapping

from msgspec import Struct

from supervisor.sense.gpu.patience import MAX_STUCK, Patience, delay


class Suspect(Struct, frozen=True):
    """One GPU that took a helper down: the others go on without it until `retry_s` (monotonic)."""

    failures: int
    retry_s: float


Suspects = Mapping[int, Suspect]  # by index


class Turn(Struct, frozen=True):
    """Which indices the next round leaves out, and which it reads after all others."""

    skip: tuple[int, ...]
    last: tuple[int, ...]


def blamed(suspects: Suspects, index: int, patience: Patience, now_s: float) -> Suspects:
    """Put off the GPU at `index`, the longer the more often it failed in a row."""
    failures = suspects[index].failures + 1 if index in suspects else 1
    return {**suspects, index: Suspect(failures, now_s + delay(patience.backoff_s, failures - 1))}


def cleared(suspects: Suspects, index: int) -> Suspects:
    """Take the GPU at `index` for good again: it answered."""
    return {other: suspect for other, suspect in suspects.items() if other != index}


def within(suspects: Suspects, indices: Collection[int]) -> Suspects:
    """Keep those of `indices` only: every other GPU answered, or is not there any more."""
    return {index: suspect for index, suspect in suspects.items() if index in indices}


def turn(suspects: Suspects, stuck: int, now_s: float) -> Turn:
    """Plan a round; while `stuck` helpers cannot be killed, no suspect is given another one."""
    may_retry = stuck < MAX_STUCK
    last = {index for index, suspect in suspects.items() if may_retry and suspect.retry_s <= now_s}
    return Turn(skip=tuple(sorted(set(suspects) - last)), last=tuple(sorted(last)))
