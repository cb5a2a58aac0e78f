"""Rungs that are offered where there is no model to reckon: half the context, down to 1024, and the CPU."""

from msgspec.structs import replace

from supervisor.model.action import Reckon
from supervisor.model.rungs import MadeRung, Rungs

GIB = 1 << 30
LITERAL = ("llama-server", "-m", "m.gguf", "-ngl", "33", "-c", "8192")
IN_BRACES = ("llama-server", "-m", "m.gguf", "-ngl", "{n_gpu_layers}", "-c", "{ctx}")


def half_the_context(order: Reckon) -> Rungs:
    """Offer what follows the settings of a server whose command is `LITERAL`, or was made from it."""
    if "auto" in order.settings.values() or order.plan.ladder:
        return Rungs()
    ctx, layers = int(order.settings.get("ctx", 8192)), int(order.settings.get("n_gpu_layers", 33))
    was = {"ctx": 8192, "n_gpu_layers": 33} if order.plan.command == LITERAL else {}
    half = {"ctx": ctx // 2, "n_gpu_layers": layers}
    smaller = MadeRung(IN_BRACES, half, was, ctx * GIB // 1024, ctx * GIB // 2048, (ctx, ctx // 2))
    cpu = MadeRung(IN_BRACES, {"ctx": ctx, "n_gpu_layers": 0}, was, on_cpu=True) if layers else None
    if ctx <= 1024:
        return Rungs(cpu=cpu)
    device = smaller if layers else None
    serving = replace(smaller, needs_bytes=smaller.needs_bytes + 1)
    return Rungs(device, smaller, serving, smaller, cpu)
