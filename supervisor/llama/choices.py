"""What may be chosen for `n_gpu_layers: auto` and `ctx: auto`, from the best to the poorest. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from supervisor.llama.first_start import CLASSES, CONTEXT, class_bytes
from supervisor.llama.recommend import CONTEXTS, SMALLEST_ON_GPU
from supervisor.llama.shape import Shape
from supervisor.model.fit import GPU_RESERVE_BYTES, Fit

_MOST_STEPS: Final = 96  # of layers: a file may claim 1,024, and each step is reckoned

Chosen = Mapping[str, int]


def choices(shape: Shape, names: Sequence[str], *, gpus: int) -> Iterator[Chosen]:
    """Yield values for the settings `names`, in the order in which `recommend` tries them.

    All layers with the longest context to 32,768 that the model was trained for; as many layers as fit with
    4,096; none, with 4,096 and less. Where only one of the two is `auto`, the other is as it is written;
    where neither is, there is one empty choice.
    """
    most = shape.context_length or CONTEXTS[-1]
    contexts = [ctx for ctx in CONTEXTS if ctx <= most] or [most]
    if "n_gpu_layers" not in names:
        yield from (dict.fromkeys(names, ctx) for ctx in contexts[: None if names else 1])
        return
    whole = shape.layers + 1
    step = -(-whole // _MOST_STEPS)
    layers = [*range(whole, 0, -step)] if gpus else []
    if "ctx" not in names:
        yield from ({"n_gpu_layers": count} for count in (*layers, 0))
        return
    long = [ctx for ctx in contexts if ctx >= SMALLEST_ON_GPU] or contexts[:1]
    short = [ctx for ctx in contexts if ctx <= SMALLEST_ON_GPU]
    yield from ({"n_gpu_layers": whole, "ctx": ctx} for ctx in long if layers)
    yield from ({"n_gpu_layers": count, "ctx": long[-1]} for count in layers[1:])
    yield from ({"n_gpu_layers": 0, "ctx": ctx} for ctx in short)


def cautious(names: Sequence[str], why: str, *, gpus: int) -> tuple[Fit, ...]:
    """Return what may be chosen where the model could not be reckoned: the table of a first start."""
    fits = [(layers, class_bytes(size)) for size, layers in CLASSES] if gpus else []
    found: list[Fit] = []
    for layers, size in (*fits, (0, 0)):
        values = {"n_gpu_layers": layers, "ctx": CONTEXT}
        free = max(0, size - GPU_RESERVE_BYTES) // max(gpus, 1)
        taken = (free,) * gpus if layers else ()
        chosen = {name: values[name] for name in names}
        found.append(Fit(chosen, vram_bytes=taken, assumed=why))
    return tuple(found) if "n_gpu_layers" in names else tuple(found[-1:])
