"""What is known of the servers that a `preset` names: where they answer, and how they end."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from supervisor.config.fault import Path, Report
from supervisor.config.tree import Written
from supervisor.model.template import REPLICA, TemplateError, fill


class Preset(Struct, frozen=True):
    """One known server. `{url}` in `keys` is where it listens."""

    keys: Mapping[str, Written]
    port_flags: tuple[str, ...]
    host_flags: tuple[str, ...] = ("--host",)
    port_variable: str | None = None
    host_variable: str | None = None
    prefix_variable: str | None = None
    default_port: int | None = None  # None: it must be written


PRESETS: Final[Mapping[str, Preset]] = {
    "llama-server": Preset(
        # With a request under way the first SIGTERM may wait for its client for ever: 61 of 80 lived on
        # after 2 s, some deadlocked with /health still answering. The second ended each within 4 ms.
        keys={
            "ready": {"llama": "{url}"},
            "health": {"llama": "{url}"},  # without times: another target that is written brings its own
            "drain": {"llama": "{url}"},
            "stop_signal": "SIGTERM",
            "stop_again": "10s",
            "stop_timeout": "30s",
            "environment": {"GGML_NO_BACKTRACE": "1"},  # or each abort runs gdb for a backtrace
        },
        port_flags=("--port",),
        port_variable="LLAMA_ARG_PORT",
        host_variable="LLAMA_ARG_HOST",
        prefix_variable="LLAMA_ARG_API_PREFIX",
    ),
    "vllm": Preset(
        # 503 once its engine is dead; it is asked through the engine's loop, so it may take a moment
        keys={
            "ready": {"http": "{url}/health"},
            "health": {"http": "{url}/health", "timeout": "10s"},
            "stop_signal": "SIGTERM",
        },
        port_flags=("--port",),
        default_port=8000,
    ),
    "torchserve": Preset(
        # /ping is 500 while fewer workers than the configured minimum live
        keys={
            "ready": {"http": "{url}/ping"},
            "health": {"http": "{url}/ping"},
            "stop_signal": "SIGTERM",
        },
        port_flags=(),
        host_flags=(),
        default_port=8080,
    ),
    "triton": Preset(
        # on SIGTERM it finishes what is in flight by itself, for --exit-timeout-secs (30) at most
        keys={
            "ready": {"http": "{url}/v2/health/ready"},
            "health": {"http": "{url}/v2/health/live"},
            "stop_signal": "SIGTERM",
        },
        port_flags=("--http-port",),
        host_flags=("--http-address",),
        default_port=8000,
    ),
}

ROUTER_FLAGS: Final = ("--models-dir", "--models-preset")
ROUTER_VARIABLES: Final = ("LLAMA_ARG_MODELS_DIR", "LLAMA_ARG_MODELS_PRESET")
SLEEP_FLAGS: Final = ("--sleep-idle-seconds",)
_PROBES: Final = ("ready", "health", "drain")
_EVERY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1", "*": "127.0.0.1"}  # noqa: S104


class Server(Struct, frozen=True):
    """A worker as a preset sees it: what is written of its command, its environment and its probes."""

    command: Sequence[str]
    environment: Mapping[str, str]
    written: frozenset[str]  # the keys that are written


def keys_of(name: str, server: Server, path: Path, report: Report) -> Mapping[str, Written]:
    """Return the keys that preset `name` fills in; a fault where the server's address cannot be found."""
    preset = PRESETS[name]
    keys = dict(preset.keys)
    if name == "llama-server":
        _adapt(keys, server, path, report)
    if name == "llama-server" and (plateau := _prompt_cache(server)) is not None:
        keys["leak"] = {"plateau": plateau}
    if all(probe in server.written for probe in _PROBES if probe in keys):
        return {key: value for key, value in keys.items() if key not in _PROBES}
    url = _url(preset, server)
    if url is None:
        why = f"cannot find where {name} listens: put --port into command, or write ready, health and drain"
        report.fault((*path, "preset"), why)
        return {key: value for key, value in keys.items() if key not in _PROBES}
    return {key: _with_url(value, url) for key, value in keys.items()}


def flag(command: Sequence[str], *names: str) -> str | None:
    """Return the value of the last of the flags `names`, as `--port 8081` or `--port=8081`."""
    found: str | None = None
    for index, word in enumerate(command):
        name, equals, value = word.partition("=")
        if name in names and equals:
            found = value
        elif word in names and index + 1 < len(command):
            found = command[index + 1]
    return found


def has_flag(command: Sequence[str], *names: str) -> bool:
    """Say whether one of the flags `names` is given."""
    return any(word.partition("=")[0] in names for word in command)


def ports_of(command: Sequence[str]) -> tuple[str, ...]:
    """Return what the command gives as the ports to listen on."""
    flags = ("--port", "--http-port", "--grpc-port", "--metrics-port")
    found = (flag(command, name) for name in flags)
    return tuple(port for port in found if port)


def filled(
    command: Sequence[str], settings: Mapping[str, str | int | float | bool], replica: int | None
) -> list[str]:
    """Return the command with its braces filled, those that cannot be filled left as they are."""
    words: list[str] = []
    for word in command:
        try:
            words.append(fill(word, {**settings, REPLICA: replica or 1}, replica))
        except TemplateError:
            words.append(word)
    return words


def _adapt(keys: dict[str, Written], server: Server, path: Path, report: Report) -> None:
    """Take back what a llama-server cannot be asked with the flags that it is given."""
    if _guards_slots(server):
        keys["health"] = {"http": "{url}/health"}
        keys.pop("drain")
        if "drain" not in server.written:
            hidden = "API key, or --no-slots without --metrics"
            report.warn(path, f"its slots cannot be asked ({hidden}): it is stopped undrained; write drain")
    elif has_flag(server.command, *SLEEP_FLAGS):
        keys["health"] = {"http": "{url}/health"}  # looked at, it never sleeps
    if _routes(server.command, server.environment):
        keys["ready"] = {"http": "{url}/health"}


def _routes(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Say whether a llama-server is told to route between models of its own."""
    return has_flag(command, *ROUTER_FLAGS) or bool(environment.keys() & {*ROUTER_VARIABLES})


def _guards_slots(server: Server) -> bool:
    """Say whether a llama-server tells of its slots to nobody, or not to whom has no key."""
    keys = {"LLAMA_API_KEY", "LLAMA_ARG_API_KEY_FILE"}
    if has_flag(server.command, "--api-key", "--api-key-file") or server.environment.keys() & keys:
        return True
    counts = has_flag(server.command, "--metrics") or "LLAMA_ARG_ENDPOINT_METRICS" in server.environment
    return has_flag(server.command, "--no-slots") and not counts


def _prompt_cache(server: Server) -> str | None:
    """Return how much RAM a llama-server's prompt cache may come to fill; None where nothing bounds it.

    8192 MiB unless it is told otherwise, which it takes over days: llama.cpp issue 25740.
    """
    written = flag(server.command, "--cache-ram", "-cram")
    mib = written or server.environment.get("LLAMA_ARG_CACHE_RAM") or "8192"
    return f"{mib}MiB" if mib.isascii() and mib.isdecimal() else None


def _url(preset: Preset, server: Server) -> str | None:
    """Return where the server answers, seen from this machine; None where it cannot be known."""
    port = flag(server.command, *preset.port_flags) or server.environment.get(preset.port_variable or "")
    port = port or (str(preset.default_port) if preset.default_port else None)
    host = flag(server.command, *preset.host_flags) or server.environment.get(preset.host_variable or "")
    host = (host or "").partition(",")[0]  # llama-server listens on several
    host = _EVERY_ADDRESS.get(host, host)
    if port is None or "/" in host or has_flag(server.command, "--uds"):  # a Unix socket
        return None
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    prefix = flag(server.command, "--api-prefix") or server.environment.get(preset.prefix_variable or "", "")
    scheme = "https" if has_flag(server.command, "--ssl-key-file", "--ssl-keyfile") else "http"
    return f"{scheme}://{host}:{port}{prefix.rstrip('/')}"


def _with_url(value: Written, url: str) -> Written:
    """Return `value` with the server's address put in."""
    if isinstance(value, str):
        return value.replace("{url}", url)
    return {key: _with_url(item, url) for key, item in value.items()}
