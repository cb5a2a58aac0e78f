#!/usr/bin/env python3
"""Update a TensorBuffer with real tensors, and a bare list beside it; print the memory it took, as JSON.

Peaks are VmHWM, which is set back before each measurement; all in MiB above what torch itself holds.
"""

import gc
import importlib
import json
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from supervisor.guard.tensors import TensorBuffer

torch: Any = importlib.import_module("torch")  # by name: it is not in the type checkers' environment
torch.set_num_threads(1)
COUNT = 8


def status_mib(name: str) -> float:
    """Read a figure of this process."""
    return int(Path("/proc/self/status").read_text().partition(f"{name}:")[2].split()[0]) / 1024


def peak_mib(work: Callable[[], object]) -> float:
    """Return by how much the memory rose above where it began."""
    gc.collect()
    before = status_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back
    work()
    return status_mib("VmHWM") - before


def generation(number: int, mib: int) -> Iterator[Any]:
    """Make COUNT tensors of `mib` together, one by one."""
    for _ in range(COUNT):
        yield torch.full((mib * (1 << 18) // COUNT,), float(number))  # float32


def whole_generation(number: int) -> list[Any]:
    """Make them all at once."""
    return list(generation(number, 128))


def bare_list() -> None:
    """Replace a list as one would."""
    tensors: list[Any] = []
    for number in range(5):
        tensors = whole_generation(number)
    assert tensors[0][0] == 4


def buffered() -> None:
    """Replace it by the buffer, each way of giving it tensors that are not made yet."""
    with TensorBuffer("cpu") as buffer:
        for number in range(5):
            buffer.replace(partial(whole_generation, number))
            buffer.replace(generation(number, 128))
        assert buffer[0][0] == 4


def many_updates() -> dict[str, float]:
    """Update 1,000 times; return the memory held after the 100th and the last, and who of the old lives."""
    old: list[weakref.ref[Any]] = []
    early = 0.0
    with TensorBuffer() as buffer:
        for number in range(1000):
            buffer.replace(generation(number, 8))
            old.append(weakref.ref(buffer[0]))
            if number == 99:
                early = status_mib("VmRSS")
        late, held = status_mib("VmRSS"), buffer.held_bytes
        alive = sum(reference() is not None for reference in old)
    return {"grown_mib": late - early, "alive": alive, "held_mib": held / (1 << 20)}


with_graph = torch.ones(4, requires_grad=True) * 2
with TensorBuffer() as kept:
    kept.replace([with_graph])
    detached = kept[0].grad_fn is None
json.dump(
    {
        **many_updates(),  # first: what the others free would hide what this one keeps
        "list_peak_mib": peak_mib(bare_list),
        "buffer_peak_mib": peak_mib(buffered),
        "detached": detached,
    },
    sys.stdout,
)
