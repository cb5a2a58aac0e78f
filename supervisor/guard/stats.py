"""A reading of memory as people and programs are given it."""

from typing import Final

from supervisor.guard.device import DeviceMemory, Unreadable

_MIB: Final = 1 << 20
_GIB: Final = 1 << 30


def in_words(reading: DeviceMemory | Unreadable) -> str:
    """Write a reading for a log line, or why there is none."""
    if isinstance(reading, Unreadable):
        return reading.why
    allocated, reserved = reading.allocated_bytes / _GIB, reading.reserved_bytes / _GIB
    return (
        f"usage {reading.usage:.1%}, allocated {allocated:.2f}GiB, reserved {reserved:.2f}GiB, "
        f"total {reading.total_bytes / _GIB:.2f}GiB"
    )


def figures(reading: DeviceMemory | Unreadable) -> dict[str, object]:
    """Return the sizes and shares of /stats: mb of 2**20 bytes, gb of 2**30, two decimals.

    Where there is no reading they are None, each with the reason in `missing`.
    """
    sizes = ("allocated", "reserved", "total")
    if isinstance(reading, Unreadable):
        names = [f"{size}_{unit}" for size in sizes for unit in ("mb", "gb")]
        names += ["usage_percent", "allocated_percent"]
        return {**dict.fromkeys(names), "missing": dict.fromkeys(names, reading.why)}
    found: dict[str, object] = {}
    for name, size in zip(
        sizes, (reading.allocated_bytes, reading.reserved_bytes, reading.total_bytes), strict=True
    ):
        found[f"{name}_mb"] = round(size / _MIB, 2)
        found[f"{name}_gb"] = round(size / _GIB, 2)
    found["usage_percent"] = round(reading.usage * 100, 2)
    found["allocated_percent"] = round(reading.allocated_bytes / reading.total_bytes * 100, 2)
    return found
