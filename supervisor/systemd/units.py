"""The units of a plan: a slice for all workers, and a service for each. Pure: texts, and no files.

What changes from life to life (the run, the GPUs, NOTIFY_SOCKET) is not in a text but in a file of
variables that it names, so that a restart needs no daemon-reload. The same arguments give the same text.
"""

import re
from collections.abc import Iterator, Mapping
from math import ceil
from typing import Final, NamedTuple

from msgspec import Struct

from supervisor.model.plan import HostPlan, MemoryCaps, Plan, Setting, WorkerPlan
from supervisor.model.template import fill
from supervisor.systemd.hardening import SAFE_FOR_WORKERS
from supervisor.systemd.quoting import (
    account,
    assignment,
    command_line,
    directory_path,
    environment_file_path,
    search_path,
)
from supervisor.systemd.signals import signal_name

SLICE: Final = "gpu-workers.slice"
PREFIX: Final = "gpu-worker-"
SERVICE: Final = re.compile(r"gpu-worker-([a-z0-9][a-z0-9-]*)\.service", re.ASCII)

UNIFIED_MEMORY: Final = "GGML_CUDA_ENABLE_UNIFIED_MEMORY"
DEVICE_ORDER: Final = "CUDA_DEVICE_ORDER"
TASKS_OF_ONE: Final = "25%"  # of the machine's; systemd's own default is 15 %, and 33 % for a user
TASKS_OF_ALL: Final = "50%"
BACKSTOP_S: Final = 30.0


class Unit(NamedTuple):
    """One unit file."""

    name: str
    text: str


class UnitPlaces(Struct, frozen=True):
    """Where the daemon keeps what units refer to."""

    environment_dir: str = "/run/gpu-supervisor/units"


def unit_name(worker: str) -> str:
    """Return the name of a worker's unit."""
    return f"{PREFIX}{worker}.service"


def worker_of(unit: str) -> str | None:
    """Return whose unit it is; None where it is no worker's."""
    found = SERVICE.fullmatch(unit)
    return found and found[1]


def life_variables(worker: str, places: UnitPlaces) -> str:
    """Return the path of the variables that a worker's life is told."""
    return f"{places.environment_dir}/{worker}.env"


def render(plan: Plan, memory_total_bytes: int, places: UnitPlaces) -> tuple[Unit, ...]:
    """Return every unit of a plan, the slice first.

    Raises ValueError, `chat: word 3 of its command ...`, for what systemd cannot be told.
    """
    units = [slice_unit(plan.host, memory_total_bytes)]
    for name, worker in plan.workers.items():
        try:
            units.append(worker_unit(worker, worker.settings, places))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return tuple(units)


def slice_unit(host: HostPlan, memory_total_bytes: int) -> Unit:
    """Return the slice of all workers: together they cannot take the machine.

    The daemon acts when less than `critical_available_bytes` is available; the kernel slows all workers
    down from there, and kills one at half of that. Never below half of the machine, which may be small.
    """
    least_bytes = memory_total_bytes // 2
    high_bytes = max(least_bytes, memory_total_bytes - host.critical_available_bytes)
    max_bytes = max(least_bytes, memory_total_bytes - host.critical_available_bytes // 2)
    text = f"""\
# Made by gpu-supervisor for this machine's {memory_total_bytes} bytes of memory; changes here are lost.
# Yours go into /etc/systemd/system/{SLICE}.d/NAME.conf.

[Unit]
Description=All workers of gpu-supervisor

[Slice]
# From here on the kernel takes back cached files and slows workers: all memory but host.critical_available.
MemoryHigh={high_bytes}
# The kernel kills a worker before it kills anything else: all memory but half of host.critical_available.
MemoryMax={max_bytes}
# Processes and threads: no workers leave the machine without the pid that somebody needs to log in.
TasksMax={TASKS_OF_ALL}
"""
    return Unit(SLICE, text)


def worker_unit(plan: WorkerPlan, settings: Mapping[str, Setting], places: UnitPlaces) -> Unit:
    """Return the service of one worker as it runs with `settings`.

    Raises ValueError, `word 3 of its command ...`, for what cannot be filled or systemd cannot be told.
    """
    name = unit_name(plan.name)
    lines = (
        "# Made by gpu-supervisor from its configuration; changes here are lost.",
        f"# Yours go into /etc/systemd/system/{name}.d/NAME.conf.",
        "",
        "[Unit]",
        f"Description=Worker {plan.name} of gpu-supervisor",
        "# When it may be started again is the daemon's decision alone.",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        *_command(plan, settings),
        *_environment(plan, settings, places),
        *_ending(plan),
        *_limits(plan),
        *SAFE_FOR_WORKERS,
    )
    return Unit(name, "\n".join(lines) + "\n")


def _command(plan: WorkerPlan, settings: Mapping[str, Setting]) -> Iterator[str]:
    yield "# Started once its program runs; whether it is ready, the daemon finds out."
    yield "Type=exec"
    words = [_filled(word, settings, plan, f"word {n} of its command") for n, word in enumerate(plan.command)]
    yield "# `:` leaves every $ as it is; `@` has argv[0] follow the program."
    yield f"ExecStart={command_line(words, plan.directory)}"
    if plan.directory is not None:
        yield f"WorkingDirectory={directory_path(plan.directory)}"
    # Said even of root: without User= there is no HOME, where models and kernels are cached.
    yield f"User={account('user', plan.user or 'root')}"
    if plan.group is not None:
        yield f"Group={account('group', plan.group)}"
    yield f"Slice={SLICE}"
    yield f"SyslogIdentifier={PREFIX}{plan.name}"
    yield "# journalctl WORKER=NAME shows what the worker prints and what the daemon says of it."
    yield f"LogExtraFields=WORKER={plan.name}"


def _environment(plan: WorkerPlan, settings: Mapping[str, Setting], places: UnitPlaces) -> Iterator[str]:
    variables = written_variables(plan, settings)
    if "PATH" in variables and (path := search_path(variables["PATH"])) is not None:
        yield f"ExecSearchPath={path}"
    if DEVICE_ORDER not in variables:
        yield "# CUDA numbers GPUs as NVML and nvidia-smi do, not the fastest first."
        yield f"Environment={DEVICE_ORDER}=PCI_BUS_ID"
    yield from (f"Environment={assignment(name, value)}" for name, value in variables.items())
    if plan.environment_file is not None:
        yield f"EnvironmentFile={environment_file_path(plan.environment_file)}"
    yield "# What the daemon tells this life of the worker; the last one wins."
    yield f"EnvironmentFile=-{environment_file_path(life_variables(plan.name, places))}"
    if plan.vram_cap_bytes is not None:
        yield "# With it, llama.cpp's GPU memory spills into RAM: the GPU cap never fires, the RAM cap does."
        yield f"UnsetEnvironment={UNIFIED_MEMORY}"


def written_variables(plan: WorkerPlan, settings: Mapping[str, Setting]) -> dict[str, str]:
    """Return the configured environment of a worker, its braces filled. Raises ValueError."""
    return {
        name: _filled(value, settings, plan, f"environment.{name}")
        for name, value in plan.environment.items()
    }


def _ending(plan: WorkerPlan) -> Iterator[str]:
    yield "# A restart is the daemon's decision."
    yield "Restart=no"
    yield "# The signal goes to the main process, which knows its children; what it leaves behind is killed."
    yield "KillMode=mixed"
    yield f"KillSignal={signal_name(plan.stop_signal)}"
    yield "# Backstops: the daemon acts at half of these."
    yield f"TimeoutStartSec={_backstop_s(plan.start_timeout_s)}"
    yield f"TimeoutStopSec={_backstop_s(plan.stop_timeout_s)}"


def _limits(plan: WorkerPlan) -> Iterator[str]:
    yield from _memory(plan.memory)
    if plan.cpu_quota is not None:
        percent = max(0.01, plan.cpu_quota * 100)  # systemd ignores 0 %
        yield f"CPUQuota={f'{percent:.2f}'.rstrip('0').rstrip('.')}%"
    yield "# Processes and threads, of the machine's: a worker that forks without end is stopped here."
    yield f"TasksMax={TASKS_OF_ONE}"
    yield "# Models may be locked into memory, and InfiniBand needs it; MemoryMax= counts it."
    yield "LimitMEMLOCK=infinity"
    yield "# Half of a process tree serves nobody: out of memory, the kernel kills all of it."
    yield "OOMPolicy=kill"
    yield "# It dies before sshd and the daemon; among workers the largest dies first."
    yield "OOMScoreAdjust=500"
    yield "# systemd-oomd, where it watches, may choose a worker: sparing one would put others in its place."
    yield "ManagedOOMPreference=none"


def _memory(caps: MemoryCaps) -> Iterator[str]:
    if caps.high_bytes is not None:
        yield f"MemoryHigh={max(1, caps.high_bytes)}"
    if caps.max_bytes is not None:
        yield f"MemoryMax={max(1, caps.max_bytes)}"  # systemd ignores 0
    if caps.swap_max_bytes is not None:
        yield f"MemorySwapMax={caps.swap_max_bytes}"


def _backstop_s(ours_s: float) -> int:
    return ceil(2 * ours_s + BACKSTOP_S)


def _filled(text: str, settings: Mapping[str, Setting], plan: WorkerPlan, where: str) -> str:
    try:
        return fill(text, settings, plan.replica)
    except ValueError as error:
        raise ValueError(f"{where} cannot be filled: {error}") from None
