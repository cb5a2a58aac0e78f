"""Holds a worker's tensors from one update to the next, without ever holding two generations of them."""

import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, Self

_PAGE_LOCKED: Final = "cannot pin the tensors of {}: only the CPU's memory is page-locked"


class TensorBuffer:
    """A list of tensors that is replaced as a whole, the old one freed before the new one is made.

    What is held is detached: a result that kept its graph would keep all that it was made from. A buffer is
    a context manager, empty at its end. Threads may share it; while one replaces, others wait.
    """

    def __init__(self, device: str | None = None, *, pin_memory: bool = False) -> None:
        """Begin empty; hold tensors on `device`, or for None on whichever they come from.

        `pin_memory` page-locks them, which makes the way from the CPU to a GPU faster, and needs CUDA. Raises
        ValueError for page-locked memory of another device than the CPU.
        """
        if pin_memory and device not in {None, "cpu"}:
            raise ValueError(_PAGE_LOCKED.format(device))
        self._device = "cpu" if pin_memory else device
        self._pin_memory = pin_memory
        self._lock = threading.RLock()
        self._tensors: list[Any] = []

    def replace(self, tensors: Iterable[Any] | Callable[[], Iterable[Any]]) -> None:
        """Free what is held, then take up `tensors`, one after the other.

        The peak is one copy only where the new tensors are not made yet: give a generator, or a function that
        makes them, which is called once the old ones are free. A list is made already, beside the old, unless
        it lies on another device. What others still hold of the old is not freed. Where making them fails,
        the buffer is left empty and the error is raised: there is nothing to go back to.
        """
        with self._lock:
            self._tensors.clear()
            fresh: list[Any] = []
            for tensor in tensors() if callable(tensors) else tensors:
                fresh.append(self._placed(tensor))
                del tensor  # it would lie on its device while the next one is made
            self._tensors = fresh

    def clear(self) -> None:
        """Free what is held; a GPU's memory goes to torch's cache, for the next tensors."""
        with self._lock:
            self._tensors.clear()

    @property
    def tensors(self) -> tuple[Any, ...]:
        """What is held; who keeps this keeps the tensors, beyond the next update."""
        with self._lock:
            return tuple(self._tensors)

    @property
    def held_bytes(self) -> int:
        """The memory of what is held; tensors that share a storage are each counted."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def __len__(self) -> int:
        """Count the tensors."""
        return len(self.tensors)

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401 - torch has no types here
        """Return one of them."""
        return self.tensors[index]

    def __enter__(self) -> Self:
        """Return the buffer."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Free what is held."""
        self.clear()

    def _placed(self, tensor: Any) -> Any:  # noqa: ANN401
        tensor = tensor.detach()
        if self._device is not None:
            tensor = tensor.to(self._device)
        return tensor.pin_memory() if self._pin_memory else tensor
