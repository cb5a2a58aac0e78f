"""The words and the environment that a worker is started with."""

import fnmatch
from collections.abc import Mapping
from typing import Final

from supervisor.act.credentials import Credentials
from supervisor.act.refusal import CannotLaunchError
from supervisor.model.action import Launch
from supervisor.model.template import fill
from supervisor.sense.procfs import RUN_VARIABLE

INHERITED: Final = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TMPDIR",
    "XDG_*",
    "LD_LIBRARY_PATH",  # containers find the NVIDIA driver by it
    "NVIDIA_*",
    "CUDA_HOME",
    "CUDA_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
"""What a worker sees of the daemon's own environment; all else is written in its configuration.

Not in it, so never inherited: NOTIFY_SOCKET, WATCHDOG_* and LISTEN_* (they speak of the daemon's own
unit), GPU_SUPERVISOR_* and CUDA_VISIBLE_DEVICES.
"""
OF_ANOTHER_USER: Final = ("XDG_*", "TMPDIR")  # directories that only the daemon's user can write
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def fill_command(order: Launch) -> tuple[str, ...]:
    """Return the worker's command with its braces filled; raises CannotLaunchError."""
    return tuple(
        _filled(order, word, f"word {n} of its command") for n, word in enumerate(order.plan.command)
    )


def inherited(environ: Mapping[str, str], credentials: Credentials) -> dict[str, str]:
    """Return the part of the daemon's environment that a worker of this user sees."""
    found = {name: value for name, value in environ.items() if _matches(name, INHERITED)}
    found.setdefault("PATH", DEFAULT_PATH)
    if credentials.name is None:
        return found
    found = {name: value for name, value in found.items() if not _matches(name, OF_ANOTHER_USER)}
    return found | {
        "HOME": credentials.home or "/",
        "USER": credentials.name,
        "LOGNAME": credentials.name,
        "SHELL": credentials.shell or "/bin/sh",
    }


def environment(
    order: Launch, base: Mapping[str, str], secrets: Mapping[str, str], notify: str | None
) -> dict[str, str]:
    """Return the whole environment of a worker; raises CannotLaunchError.

    `base` is overruled by the configuration, that by its environment file (`secrets`), and all of
    them by what the daemon itself says. `notify` is the path of the NOTIFY_SOCKET.
    """
    written = {
        name: _filled(order, value, f"environment.{name}") for name, value in order.plan.environment.items()
    }
    found = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", **base, **written, **secrets}
    if order.plan.vram_cap_bytes is not None:
        # With it, llama.cpp's CUDA allocations spill into RAM: the GPU cap never fires, the RAM cap does.
        found.pop("GGML_CUDA_ENABLE_UNIFIED_MEMORY", None)
    return found | ours(order, notify)


def ours(order: Launch, notify: str | None) -> dict[str, str]:
    """Return what the daemon tells a worker through its environment; sizes are bytes."""
    plan = order.plan
    found = {RUN_VARIABLE: order.run, "GPU_SUPERVISOR_WORKER": order.worker}
    if plan.memory.cap_bytes is not None:
        found["GPU_SUPERVISOR_MEMORY_CAP"] = str(plan.memory.cap_bytes)
    if plan.vram_cap_bytes is not None:
        found["GPU_SUPERVISOR_VRAM_CAP"] = str(plan.vram_cap_bytes)
    if order.gpus is not None:
        found["CUDA_VISIBLE_DEVICES"] = ",".join(order.gpus)  # empty hides every GPU
    if notify is not None:
        found["NOTIFY_SOCKET"] = found["GPU_SUPERVISOR_SOCKET"] = notify
        if plan.heartbeat_s is not None:
            found["WATCHDOG_USEC"] = str(round(plan.heartbeat_s * 1e6))
    return found


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _filled(order: Launch, text: str, where: str) -> str:
    try:
        return fill(text, order.settings, order.plan.replica)
    except ValueError as error:
        raise CannotLaunchError(f"cannot fill {where}: {error}", hopeless=True) from None
