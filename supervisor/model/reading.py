"""A reading that may not have been had: a value, or the reason why there is none."""

from typing import Final, TypeVar

from msgspec import Struct

Value = TypeVar("Value")


class Missing(Struct, frozen=True):
    """Why a reading could not be had. Missing never kills, never admits and never clears."""

    why: str


NOT_READ_YET: Final = Missing("not read yet")


def known(reading: Value | Missing) -> Value | None:
    """Return the value for showing it to people, with None for a missing one; never for judging."""
    return None if isinstance(reading, Missing) else reading
