"""Which GPU, or the host, a layer of a model lies on."""

from bisect import bisect_right
from itertools import accumulate
from typing import Final

from supervisor.llama.settings import Settings
from supervisor.llama.shape import Shape

HOST: Final = -1


def places_of(shape: Shape, settings: Settings) -> tuple[int, ...]:
    """Return the place of each layer and, last, of the output: an index of `settings.shares`, or HOST.

    src/llama-model.cpp (load_tensors, get_layer_buft_list): the last n_gpu_layers of layers + 1 go to GPUs,
    shared out by `shares` in order; the embedding stays on the host.
    """
    count = shape.layers + 1
    on_gpus = min(settings.n_gpu_layers, count) if settings.shares else 0
    if on_gpus <= 0:
        return (HOST,) * count
    total = sum(settings.shares)
    borders = [part / total for part in accumulate(settings.shares)]
    last = len(settings.shares) - 1
    taken = tuple(min(bisect_right(borders, index / on_gpus), last) for index in range(on_gpus))
    return (HOST,) * (count - on_gpus) + taken
