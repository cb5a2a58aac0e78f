"""What a llama-server is told, read from its command and environment as it reads them itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from supervisor.llama.settings import DEFAULT_CACHE_RAM_BYTES, Settings

_ALL_LAYERS: Final = 1 << 20
# One input of theirs has to fit a micro-batch: tools/server refuses a longer one.
_EMBEDDING: Final = (
    *("--embedding", "--embeddings", "LLAMA_ARG_EMBEDDINGS"),
    *("--rerank", "--reranking", "LLAMA_ARG_RERANKING"),
)
_ON: Final = frozenset({"on", "enabled", "true", "1"})
_SWITCHED: Final = _ON | {"off", "disabled", "false", "0", "auto"}
_MOST_DIGITS: Final = 9
# Flags with a value, by what they set; then their variables. From `llama-server --help`, llama.cpp 0.7.0.
_VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "model": ("-m", "--model", "LLAMA_ARG_MODEL"),
    "mmproj": ("-mm", "--mmproj", "LLAMA_ARG_MMPROJ"),
    "n_gpu_layers": ("-ngl", "--gpu-layers", "--n-gpu-layers", "LLAMA_ARG_N_GPU_LAYERS"),
    "ctx": ("-c", "--ctx-size", "LLAMA_ARG_CTX_SIZE"),
    "batch": ("-b", "--batch-size", "LLAMA_ARG_BATCH"),
    "ubatch": ("-ub", "--ubatch-size", "LLAMA_ARG_UBATCH"),
    "slots": ("-np", "--parallel", "LLAMA_ARG_N_PARALLEL"),
    "cache_k": ("-ctk", "--cache-type-k", "LLAMA_ARG_CACHE_TYPE_K"),
    "cache_v": ("-ctv", "--cache-type-v", "LLAMA_ARG_CACHE_TYPE_V"),
    "flash_attention": ("-fa", "--flash-attn", "LLAMA_ARG_FLASH_ATTN"),
    "cpu_moe_layers": ("-ncmoe", "--n-cpu-moe", "LLAMA_ARG_N_CPU_MOE"),
    "shares": ("-ts", "--tensor-split", "LLAMA_ARG_TENSOR_SPLIT"),
    "split_mode": ("-sm", "--split-mode", "LLAMA_ARG_SPLIT_MODE"),
    "load_mode": ("-lm", "--load-mode", "LLAMA_ARG_LOAD_MODE"),
    "fit": ("-fit", "--fit", "LLAMA_ARG_FIT"),
    "device": ("-dev", "--device", "LLAMA_ARG_DEVICE"),
    "cache_ram": ("-cram", "--cache-ram", "LLAMA_ARG_CACHE_RAM"),  # MiB
}
_SWITCHES: Final[Mapping[str, tuple[str, str]]] = {
    "--mmap": ("mmap", "on"),
    "--no-mmap": ("mmap", "off"),
    "-kvu": ("kv_unified", "on"),
    "--kv-unified": ("kv_unified", "on"),
    "-no-kvu": ("kv_unified", "off"),
    "--no-kv-unified": ("kv_unified", "off"),
    "-kvo": ("kv_offload", "on"),
    "--kv-offload": ("kv_offload", "on"),
    "-nkvo": ("kv_offload", "off"),
    "--no-kv-offload": ("kv_offload", "off"),
    "--swa-full": ("swa_full", "on"),
    "-cmoe": ("cpu_moe", "on"),
    "--cpu-moe": ("cpu_moe", "on"),
}
_SWITCH_VARIABLES: Final = {
    "LLAMA_ARG_MMAP": "mmap",
    "LLAMA_ARG_KV_UNIFIED": "kv_unified",
    "LLAMA_ARG_KV_OFFLOAD": "kv_offload",
    "LLAMA_ARG_SWA_FULL": "swa_full",
    "LLAMA_ARG_CPU_MOE": "cpu_moe",
}
# What takes or moves memory in a way that is not reckoned.
_NOT_RECKONED: Final = (
    *("-md", "--model-draft", "--spec-draft-model", "LLAMA_ARG_SPEC_DRAFT_MODEL", "--spec-type"),
    *("-ot", "--override-tensor", "LLAMA_ARG_OVERRIDE_TENSOR", "--moe-cache-mib", "--rpc", "LLAMA_ARG_RPC"),
    *("--lora", "--lora-scaled", "--control-vector", "--no-mmproj-offload", "-mmu", "--mmproj-url"),
)
_FLAGS: Final = {flag: name for name, flags in _VALUES.items() for flag in flags if flag.startswith("-")}
_VARIABLES: Final = {
    flag: name for name, flags in _VALUES.items() for flag in flags if not flag.startswith("-")
}


class Server(Struct, frozen=True):
    """One llama-server: its model's first file, its projector, and its settings but for mmproj's size."""

    model: Path
    mmproj: Path | None
    settings: Settings
    is_cache_ram_written: bool = False  # else the prompt cache is as large as nobody has asked for
    embeds: bool = False


class NotReckonedError(ValueError):
    """What a server is told does not say what it will take; the text says why."""


def read_server(
    command: Sequence[str], environment: Mapping[str, str], directory: Path, shares: tuple[int, ...]
) -> Server:
    """Read a filled command, flags before `LLAMA_ARG_*`; `shares` is what its GPUs would get of the layers.

    Without GPUs no layer is on one. Raises NotReckonedError where the server
    fits itself to what is free (no -ngl or -c, and --fit on), loads no file, or does what is not reckoned.
    """
    odd = next((word for word in (*command, *environment) if word.partition("=")[0] in _NOT_RECKONED), None)
    if odd is not None:
        raise NotReckonedError(f"{odd.partition('=')[0]} is not reckoned")
    told = _told(command, environment)
    if "model" not in told:
        raise NotReckonedError("its command names no model file")
    mmproj = told.get("mmproj")
    return Server(
        directory / told["model"],
        None if mmproj is None else directory / mmproj,
        _settings(told, tuple(map(float, shares))),
        is_cache_ram_written="cache_ram" in told,
        embeds=any(word in _EMBEDDING for word in (*command, *environment)),
    )


def _told(command: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    told = {name: environment[key] for key, name in _VARIABLES.items() if key in environment}
    told |= {name: environment[key].lower() for key, name in _SWITCH_VARIABLES.items() if key in environment}
    words = list(command)
    for index, word in enumerate(words):
        flag, equals, value = word.partition("=")
        following = words[index + 1] if index + 1 < len(words) else ""
        if flag in _FLAGS:
            bare = _FLAGS[flag] == "flash_attention" and following not in _SWITCHED  # as it once was
            told[_FLAGS[flag]] = value if equals else "on" if bare else following
        elif word in _SWITCHES:
            name, setting = _SWITCHES[word]
            told[name] = setting
    return told


def _settings(told: Mapping[str, str], shares: tuple[float, ...]) -> Settings:
    slots = _whole(told, "slots", -1)
    unified = _is_on(told, "kv_unified", default=slots < 0)
    settings = Settings(
        n_gpu_layers=_layers(told, shares),
        ctx=_ctx(told),
        batch=_whole(told, "batch", 2048),
        ubatch=_whole(told, "ubatch", 512),
        slots=4 if slots < 0 else max(slots, 1),
        kv_unified=unified,
        cache_k=told.get("cache_k", "f16"),
        cache_v=told.get("cache_v", "f16"),
        flash_attention=told.get("flash_attention", "auto") in {*_ON, "auto"},
        kv_offload=_is_on(told, "kv_offload", default=True),
        cpu_moe_layers=_ALL_LAYERS
        if _is_on(told, "cpu_moe", default=False)
        else _whole(told, "cpu_moe_layers", 0),
        swa_full=_is_on(told, "swa_full", default=False),
        mmap=_is_on(told, "mmap", default=True) and told.get("load_mode", "auto") in {"auto", "mmap"},
        cache_ram_bytes=_cache_ram(told),
        shares=shares,
    )
    return settings if settings.n_gpu_layers else replace(settings, shares=())


def _layers(told: Mapping[str, str], shares: tuple[float, ...]) -> int:
    if not shares or told.get("device") == "none":
        return 0
    if len(shares) > 1 and ("shares" in told or told.get("split_mode", "layer") != "layer"):
        raise NotReckonedError("how it splits the model over its GPUs is not reckoned")
    if "device" in told:
        raise NotReckonedError("--device is not reckoned")
    if told.get("n_gpu_layers") == "all":
        return _ALL_LAYERS
    if told.get("n_gpu_layers", "auto") in {"auto", "-1"}:
        raise NotReckonedError("without --n-gpu-layers it fits itself to what is free")
    return _whole(told, "n_gpu_layers", 0)


def _ctx(told: Mapping[str, str]) -> int:
    ctx = _whole(told, "ctx", 0)
    if ctx == 0 and told.get("fit", "on") in _ON:
        raise NotReckonedError("without --ctx-size it fits itself to what is free")
    return ctx


def _cache_ram(told: Mapping[str, str]) -> int:
    """Return how large the prompt cache may grow; without a limit (-1) it counts as by default."""
    size = _whole(told, "cache_ram", -1)
    return DEFAULT_CACHE_RAM_BYTES if size < 0 else size << 20


def _whole(told: Mapping[str, str], name: str, default: int) -> int:
    text = told.get(name)
    if text is None:
        return default
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS):
        raise NotReckonedError(f"{name} is {text[:40]!r}, which is no number")
    return int(text)


def _is_on(told: Mapping[str, str], name: str, *, default: bool) -> bool:
    return told[name] in _ON if name in told else default
