"""A worker for the configuration, as text."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from supervisor.llama.first_start import FirstStart
from supervisor.llama.fit import Need
from supervisor.llama.recommend import Choice

_PORT: Final = 8081
_MIB: Final = 1 << 20
_STEP: Final = 64 * _MIB
_LONGEST_NAME: Final = 41
_OTHER: Final = re.compile(r"[^a-z0-9]+")


def stanza(model: Path, choice: Choice) -> str:
    """Return the worker of a choice, in YAML for the configuration."""
    settings = choice.settings
    values: dict[str, int | str] = {
        "port": _PORT,
        "n_gpu_layers": settings.n_gpu_layers,
        "ctx": settings.ctx,
        "batch": settings.batch,
        "ubatch": settings.ubatch,
        "threads": choice.threads,
        "cache_type": settings.cache_k,
        "parallel": settings.slots,
        "cache_ram_mib": settings.cache_ram_bytes // _MIB,
    }
    flags = {
        "--n-gpu-layers": "n_gpu_layers",
        "--ctx-size": "ctx",
        "--batch-size": "batch",
        "--ubatch-size": "ubatch",
        "--threads": "threads",
        "--cache-type-k": "cache_type",
        "--cache-type-v": "cache_type",
        "--parallel": "parallel",
        "--cache-ram": "cache_ram_mib",
    }
    if settings.cpu_moe_layers:
        values["cpu_moe_layers"] = settings.cpu_moe_layers
        flags["--n-cpu-moe"] = "cpu_moe_layers"
    gpus = [gpu.uuid for gpu in choice.gpus]
    more = ["--tensor-split", ",".join(f"{share:g}" for share in settings.shares)] if len(gpus) > 1 else []
    if settings.cache_v != "f16":
        more += ["--flash-attn", "on"]  # a quantized V needs it
    return "\n".join([*_head(model, flags, more), *_tail(values, gpus, _caps(choice.need))]) + "\n"


def first_stanza(start: FirstStart) -> str:
    """Return the worker of a first start, with a model yet to be named."""
    values: dict[str, int | str] = {
        "port": _PORT,
        "n_gpu_layers": start.n_gpu_layers,
        "ctx": start.ctx,
        "batch": start.batch,
        "threads": start.threads,
        "cache_ram_mib": start.cache_ram_bytes // _MIB,
    }
    flags = {
        "--n-gpu-layers": "n_gpu_layers",
        "--ctx-size": "ctx",
        "--batch-size": "batch",
        "--threads": "threads",
        "--cache-ram": "cache_ram_mib",
    }
    gpus = [] if start.gpu is None else [start.gpu.uuid]
    return "\n".join([*_head(Path("/models/MODEL.gguf"), flags, []), *_tail(values, gpus, {})]) + "\n"


def _head(model: Path, flags: Mapping[str, str], more: list[str]) -> Iterator[str]:
    path = str(model).replace("{", "{{").replace("}", "}}")
    words = ["llama-server", "--model", path, "--host", "127.0.0.1", "--port", "{port}"]
    words += [word for flag, name in flags.items() for word in (flag, f"{{{name}}}")]
    yield "workers:"
    yield f"  {_name(model)}:"
    yield "    preset: llama-server"
    yield f"    command: {json.dumps([*words, *more])}"


def _tail(values: Mapping[str, int | str], gpus: list[str], caps: Mapping[str, int]) -> Iterator[str]:
    yield f"    settings: {{{', '.join(f'{name}: {value}' for name, value in values.items())}}}"
    yield f"    gpus: {json.dumps(gpus) if gpus else 'none'}"
    for key, size in caps.items():
        yield f"    {key}: {{cap: {size // _MIB}M}}"


def _caps(need: Need) -> dict[str, int]:
    """Return the caps: a quarter above what is reckoned.

    The weights on the host are counted although they are mapped: the CPU keeps some types in another order,
    in memory of its own (CPU_REPACK), and which depends on the machine.
    """
    host = need.host.own_bytes + (need.host.weights_bytes if need.host.is_mapped else 0)
    caps = {"memory": _above(host)}
    if need.devices:
        caps["vram"] = _above(sum(device.total_bytes for device in need.devices))
    return caps


def _above(size: int) -> int:
    return -(-size * 5 // 4 // _STEP) * _STEP


def _name(model: Path) -> str:
    stem = _OTHER.sub("-", model.stem.lower()).strip("-")[:_LONGEST_NAME].strip("-")
    return stem or "chat"
