"""Warnings about known servers: flags without which they do something else than they seem to."""

from collections.abc import Iterator
from pathlib import Path as File
from typing import Final

from supervisor.config.fault import Path, Report, quoted
from supervisor.config.presets import ROUTER_FLAGS, ROUTER_VARIABLES, SLEEP_FLAGS, filled, flag, has_flag
from supervisor.model.plan import LlamaTarget, WorkerPlan
from supervisor.model.quantity import format_size, format_span

_MODEL_FLAGS: Final = (
    *("-m", "--model", "-mu", "--model-url", "-hf", "-hfr", "--hf-repo", "-dr", "--docker-repo"),
    *ROUTER_FLAGS,
)
_MODEL_VARIABLES: Final = (
    *("LLAMA_ARG_MODEL", "LLAMA_ARG_MODEL_URL", "LLAMA_ARG_HF_REPO", "LLAMA_ARG_DOCKER_REPO"),
    *ROUTER_VARIABLES,
)
_PROMPT_CACHE_BYTES: Final = 8 << 30  # the default of --cache-ram, of each llama-server
_DIGITS: Final = 9
_TRITON_EXIT_S: Final = 30.0  # the default of --exit-timeout-secs


def lint_server(worker: WorkerPlan, path: Path, report: Report) -> None:
    """Add what is odd about the server of the worker's preset to the report."""
    command = filled(worker.command, worker.settings, worker.replica)
    match worker.preset:
        case "llama-server":
            found = _llama(worker, command)
        case "torchserve":
            found = _torchserve(worker, command)
        case "triton":
            found = _triton(worker, command)
        case _:
            return
    for key, why in found:
        report.warn((*path, *key), why)


def _llama(worker: WorkerPlan, command: list[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    if not has_flag(command, *_MODEL_FLAGS) and not worker.environment.keys() & {*_MODEL_VARIABLES}:
        yield (
            ("command",),
            "names no model: llama-server then routes between none, answers /health, and never gets ready",
        )
    sleeps = has_flag(command, *SLEEP_FLAGS)
    if sleeps and worker.health is not None and isinstance(worker.health.target, LlamaTarget):
        yield ("health", "llama"), "looks at its slots, so it never sleeps: write health: {http: URL/health}"
    yield from _model(worker, flag(command, "-m", "--model"))
    cap = worker.memory.cap_bytes
    caches = has_flag(command, "--cache-ram", "-cram") or "LLAMA_ARG_CACHE_RAM" in worker.environment
    if cap is not None and cap <= _PROMPT_CACHE_BYTES and not caches:
        why = f"its prompt cache may grow to 8GiB, and the cap is {format_size(cap)}: pass --cache-ram MIB"
        yield ("memory", "cap"), why


def _model(worker: WorkerPlan, name: str | None) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what is wrong with the model file, whose mapped pages count for the kernel, not for the cap."""
    if name is None or "{" in name:
        return
    try:
        size = (File(worker.directory or ".") / name).stat().st_size
    except OSError as error:
        yield ("command",), f"cannot use the model {quoted(name)}: {error.strerror}"
        return
    limit = worker.memory.max_bytes
    if limit is not None and limit < size:
        why = f"is less than the model, {format_size(size)}, whose mapped pages count against it"
        yield ("memory", "max"), why


def _torchserve(worker: WorkerPlan, command: list[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    if "--foreground" not in command:
        yield ("command",), "without --foreground torchserve goes to the background, which looks like an exit"
    if has_flag(command, "--ts-config") or "TS_CONFIG_FILE" in worker.environment:
        why = "the preset asks 127.0.0.1:8080; where inference_address differs, write ready and health"
        yield ("preset",), why


def _triton(worker: WorkerPlan, command: list[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    written = flag(command, "--exit-timeout-secs") or ""
    exit_s = (
        float(written)
        if written.isascii() and written.isdigit() and len(written) <= _DIGITS
        else _TRITON_EXIT_S
    )
    if worker.stop_timeout_s <= exit_s:
        yield (
            ("stop_timeout",),
            f"Triton finishes its requests for {format_span(exit_s)}: allow it longer than that",
        )
