"""What the helper and its client say to each other: JSON, one document a line, over its stdin and stdout.

The client asks with a `Request`; the helper answers with several `Line`s: `order`, then one `gpu` for each
GPU as soon as it is read, then `end`. A reading that could not be had is a string that says why.
Dictionaries, not structs: the helper has to start quickly and to stay small.
"""

from typing import Final, TypedDict

# The environment variable that marks the processes of a worker; the helper must not carry it.
RUN_VARIABLE: Final = "GPU_SUPERVISOR_RUN"

NO_BINDINGS: Final = -1  # beside NVML's codes: pynvml cannot be imported
NO_GPU: Final = 0  # the driver works and lists no GPU


class Fault(TypedDict):
    """An error of the driver: NVML's code, and its meaning in words."""

    code: int
    text: str


class GpuLine(TypedDict):
    """One GPU. With a `fault`, the readings are empty; without a `uuid`, not even its name could be had."""

    index: int
    read_s: float  # monotonic, when the reading began
    uuid: str | None
    name: str
    fault: Fault | None
    unified: bool
    memory_total_bytes: int | str
    memory_used_bytes: int | str
    temperature_c: int | str
    power_mw: int | str
    power_limit_mw: int | str
    utilization_percent: int | str
    processes: list[tuple[int, int | str]] | str  # pid and bytes
    bus_id: str  # as the driver writes it; empty where it could not be had
    throttle: list[str] | str


class Line(TypedDict, total=False):
    """One line of the helper. Without `round` it tells how starting went: `ready` or a `fault`."""

    ready: bool
    round: int
    order: list[int]  # the indices in the order in which they are about to be read
    gpu: GpuLine
    end: bool
    fault: Fault  # with a `round`: no GPU could be read


class Request(TypedDict):
    """Read all GPUs, but not the indices of `skip`, and those of `last` after all others."""

    round: int
    skip: list[int]
    last: list[int]
