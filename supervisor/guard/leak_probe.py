"""Names the Python types whose number grows, and with torch the tensors by device, type and shape."""

import gc
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Final, NamedTuple

from supervisor.guard.loaded import loaded

_MIB: Final = 1 << 20
_FEWEST_PROBES: Final = 3  # two growths in a row


class Growth(NamedTuple):
    """A type of which there were more at each probe."""

    name: str
    number: int
    grown: int
    """How many more than at the first of the probes compared."""
    bytes: int | None = None
    """What all of them hold, where they are tensors; views of one storage are each counted."""

    def in_words(self) -> str:
        """Write it as one line."""
        size = "" if self.bytes is None else f", {self.bytes / _MIB:.1f} MiB"
        return f"{self.name}: {self.number}, {self.grown:+d}{size}"


class Probe(NamedTuple):
    """What a probe found, most growth first, and what it cost."""

    growths: tuple[Growth, ...]
    probes: int
    """How many were compared; nothing is named before there are enough."""
    objects: int
    took_s: float

    def in_words(self) -> str:
        """Write it as lines: the types that grow, and what it took to find them."""
        cost = f"{self.objects} objects looked at in {self.took_s * 1e3:.0f} ms"
        if not self.growths:
            return f"no type grew at each of {self.probes} probes; {cost}"
        lines = [f"  {growth.in_words()}" for growth in self.growths]
        return "\n".join([f"types that grew at each of {self.probes} probes; {cost}", *lines])


class LeakProbe:
    """Counts what the garbage collector tracks, by type, and compares its last few counts.

    A type is named when each of `window` probes found more of it than the one before, and at least `least`
    more in all. What comes and goes is not named, nor is a cache once it is full; while it fills up it cannot
    be told from a leak. Probe at the same point of the work each time, such as between epochs. Not counted
    are what the collector does not track (numbers, texts, bytes, NumPy's arrays) and memory beyond Python's.
    """

    def __init__(
        self,
        window: int = 5,
        least: int = 20,
        *,
        share: float = 0.01,
        clock: Callable[[], float] = time.perf_counter,
        modules: Mapping[str, Any] = sys.modules,
    ) -> None:
        """Begin without a probe.

        Probing takes at most `share` of the time: a probe that comes sooner returns the last result; 0 means
        no such limit. Raises ValueError for a window below 3, since a single growth is no trend.
        """
        if window < _FEWEST_PROBES:
            raise ValueError(f"cannot look for leaks: {window} probes are too few, 3 is the least")
        self._least = least
        self._share = share
        self._clock = clock
        self._modules = modules
        # Full from the start, and of nothing that the collector tracks: else it would find itself to grow.
        self._seen: deque[dict[str, int]] = deque(({} for _ in range(window)), maxlen=window)
        self._probes = 0
        self._due_s: float | None = None
        self._last = Probe((), 0, 0, 0.0)

    def probe(self) -> Probe:
        """Collect garbage, count, and compare; some 0.2 s for a million objects, which stop all threads."""
        began_s = self._clock()
        if self._due_s is not None and began_s < self._due_s:
            return self._last
        gc.collect()
        objects = gc.get_objects()
        numbers, held = _by_type(objects, loaded("torch", self._modules))
        looked_at = len(objects)
        del objects
        self._seen.append(numbers)
        self._probes = min(self._probes + 1, len(self._seen))
        ended_s = self._clock()
        took_s = ended_s - began_s
        self._due_s = None if not self._share else ended_s + took_s / self._share
        self._last = Probe(self._growths(held), self._probes, looked_at, took_s)
        return self._last

    def _growths(self, held: Mapping[str, int]) -> tuple[Growth, ...]:
        if self._probes < len(self._seen):
            return ()
        found: list[Growth] = []
        for name, number in self._seen[-1].items():
            numbers = [each.get(name, 0) for each in self._seen]
            rises = all(later > earlier for earlier, later in pairwise(numbers))
            grown = number - numbers[0]
            if rises and grown >= self._least:
                found.append(Growth(name, number, grown, held.get(name)))
        return tuple(sorted(found, key=lambda growth: (-(growth.bytes or 0), -growth.grown, growth.name)))


def _by_type(objects: list[object], torch: Any | None) -> tuple[dict[str, int], dict[str, int]]:  # noqa: ANN401
    """Count the objects by the name of their type, and tensors by what they are; and what these hold."""
    types = Counter(map(type, objects))  # in C: a tenth of the time of a loop
    numbers: dict[str, int] = {}
    held: dict[str, int] = {}
    for type_, number in types.items():
        name = f"{type_.__module__}.{type_.__qualname__}"
        numbers[name] = numbers.get(name, 0) + number
    tensor_types = [type_ for type_ in types if torch is not None and issubclass(type_, torch.Tensor)]
    for tensor in (each for each in objects if type(each) in tensor_types) if tensor_types else ():
        name, size = _described(tensor)
        numbers[name] = numbers.get(name, 0) + 1
        held[name] = held.get(name, 0) + size
    return numbers, held


def _described(tensor: Any) -> tuple[str, int]:  # noqa: ANN401
    kind = type(tensor).__qualname__
    try:
        return f"{kind} {tensor.device} {tensor.dtype} {tuple(tensor.shape)}", int(tensor.nbytes)
    except (RuntimeError, ValueError):  # without a shape yet, sparse, or as a subclass has it
        return f"{kind} of unknown shape", 0
