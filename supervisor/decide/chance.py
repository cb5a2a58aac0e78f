"""Chance without a source of it: the same name always draws the same number."""

from hashlib import blake2b


def draw(name: str) -> float:
    """Return a number in [0, 1) that is spread evenly over names.

    A run's name is unique, so what is drawn from it is drawn once for each life, and a
    replayed turn draws it again.
    """
    return int.from_bytes(blake2b(name.encode(), digest_size=7).digest()) / (1 << 56)
