"""What `recommend --json` prints; its keys are stable."""

import msgspec

from supervisor.cli.fit_params import Shown
from supervisor.llama.first_start import FirstStart
from supervisor.llama.room import Room
from supervisor.model.reading import Missing


def document(shown: Shown) -> str:
    """Return the machine, the model, the settings, what is needed and the worker."""
    model, choice = shown.model, shown.choice
    devices = [
        {**msgspec.to_builtins(device), "uuid": gpu.uuid, "total_bytes": device.total_bytes}
        for device, gpu in zip(choice.need.devices, choice.gpus, strict=True)
    ]
    host = choice.need.host
    sizes = {"own_bytes": host.own_bytes, "total_bytes": host.total_bytes}
    found = {
        "machine": _machine(shown.free),
        "model": {
            "paths": [str(path) for path in model.paths],
            "file_bytes": model.file_bytes,
            "weights_bytes": model.weights.total_bytes,
            "shape": msgspec.to_builtins(model.shape),
        },
        "settings": {**msgspec.to_builtins(choice.settings), "threads": choice.threads, "mlock": False},
        "need": {"devices": devices, "host": {**msgspec.to_builtins(host), **sizes}},
        "notes": list(choice.notes),
        "stanza": shown.worker,
        "llama_fit_params": msgspec.to_builtins(shown.second),
    }
    return _json(found)


def first_document(free: Room, start: FirstStart, worker: str) -> str:
    """Return the machine and the settings for a first start."""
    settings = {**msgspec.to_builtins(start), "gpu": None if start.gpu is None else start.gpu.uuid}
    found: dict[str, object] = {
        "machine": _machine(free),
        "model": None,
        "settings": settings,
        "need": None,
        "notes": [],
        "stanza": worker,
        "llama_fit_params": None,
    }
    return _json(found)


def _machine(free: Room) -> dict[str, object]:
    """Return the machine; a reading that could not be had is null, with its reason in `missing`."""
    missing: dict[str, str] = {}
    found: dict[str, object] = {}
    for name in ("memory_total_bytes", "memory_free_bytes", "cores"):
        found[name] = _known(getattr(free, name), name, missing)
    gpus: list[dict[str, object]] = []
    for gpu in free.gpus:
        absent: dict[str, str] = {}
        sizes = {name: _known(getattr(gpu, name), name, absent) for name in ("total_bytes", "free_bytes")}
        known = {"index": gpu.index, "uuid": gpu.uuid, "name": gpu.name, "unified": gpu.unified}
        gpus.append({**known, **sizes, "missing": absent})
    if free.gpu_missing is not None:
        missing["gpus"] = free.gpu_missing
    return {**found, "gpus": gpus, "missing": missing}


def _known(value: object, name: str, missing: dict[str, str]) -> object:
    if isinstance(value, Missing):
        missing[name] = value.why
        return None
    return value


def _json(found: object) -> str:
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode()
