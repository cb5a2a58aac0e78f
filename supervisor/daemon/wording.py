"""Values as any log and any database takes them: a line of log must never fail for what it says."""

from collections.abc import Mapping
from typing import Final

from supervisor.model.action import Field

_WORD_MOST: Final = 1 << 63  # beyond it neither JSON readers nor SQLite hold a whole number


def plain_text(text: str, most: int | None = None) -> str:
    """Return `text` with what is no Unicode replaced (os.fsdecode leaves such), and no longer than `most`."""
    cut = text if most is None else text[:most]
    return cut.encode("utf-8", "backslashreplace").decode()


def plain_fields(fields: Mapping[str, Field], most: int) -> dict[str, Field]:
    """Return fields whose texts are Unicode of at most `most` characters and whose numbers fit 64 bits."""
    return {plain_text(key): _plain(value, most) for key, value in fields.items()}


def _plain(value: Field, most: int) -> Field:
    if isinstance(value, str):
        return plain_text(value, most)
    if isinstance(value, int) and not -_WORD_MOST <= value < _WORD_MOST:
        return f"{value:.6e}" if abs(value) < 1 << 1023 else "beyond all bounds"
    return value
