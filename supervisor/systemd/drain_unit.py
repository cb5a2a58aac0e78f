"""A drain command as a service of its own: it runs as its worker does, and is gone when it has ended.

The unit has no file: systemd is told its properties, in the words of org.freedesktop.systemd1(5) and of
`systemd-run`, as they are, so that nothing is quoted. What is said twice, here and in units.py, is what
the worker and its command have in common.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Final

from supervisor.model.plan import Setting, WorkerPlan
from supervisor.systemd.quoting import (
    account_name,
    assignment,
    command_line,
    directory_path,
    environment_file_pattern,
    program_path,
    search_directories,
)
from supervisor.systemd.units import (
    DEVICE_ORDER,
    SLICE,
    UNIFIED_MEMORY,
    UnitPlaces,
    life_variables,
    written_variables,
)

PREFIX: Final = "gpu-drain-"
Property = tuple[str, str, object]  # name, D-Bus signature, value

NOTICE: Final = 5  # syslog(3)
SIGKILL: Final = 9
# What the worker says to the daemon, the command may not say for it.
OF_THE_WORKER: Final = ("NOTIFY_SOCKET", "GPU_SUPERVISOR_SOCKET", "WATCHDOG_USEC")
# As in hardening.py: SYS_BOOT, SYS_TIME, MAC_OVERRIDE, MAC_ADMIN, WAKE_ALARM of linux/capability.h.
TAKEN_AWAY: Final = (22, 25, 32, 33, 35)
ALL_CAPABILITIES: Final = (1 << 64) - 1
BACKSTOP_S: Final = 5.0
STOP_S: Final = 10.0


def drain_unit(worker: str) -> str:
    """Return the name of the unit that a worker's drain command runs in."""
    return f"{PREFIX}{worker}.service"


def drain_properties(
    plan: WorkerPlan,
    settings: Mapping[str, Setting],
    command: Sequence[str],
    timeout_s: float,
    places: UnitPlaces,
) -> tuple[Property, ...]:
    """Return the properties of a unit that runs a command as the worker runs with `settings`.

    Raises ValueError, `word 3 of its command ...`, for what cannot be filled or systemd cannot be told.
    """
    return (
        ("Description", "s", f"Drain command of worker {plan.name} of gpu-supervisor"),
        # Its start is over when it has ended.
        ("Type", "s", "oneshot"),
        *_command(plan, command),
        *_environment(plan, settings, places),
        *_ending(timeout_s),
        *_journal(plan),
        ("Slice", "s", SLICE),
        ("OOMPolicy", "s", "kill"),
        ("OOMScoreAdjust", "i", 500),
        ("CapabilityBoundingSet", "t", ALL_CAPABILITIES & ~sum(1 << number for number in TAKEN_AWAY)),
    )


def _command(plan: WorkerPlan, command: Sequence[str]) -> Iterator[Property]:
    command_line(command, plan.directory)  # what a unit's file cannot hold, D-Bus does not take either
    words, program = list(command), program_path(command[0], plan.directory)
    yield "ExecStartEx", "a(sasas)", [[program, words, ["no-env-expand"]]]
    if plan.directory is not None:
        directory_path(plan.directory)
        yield "WorkingDirectory", "s", plan.directory
    yield "User", "s", account_name("user", plan.user or "root")
    if plan.group is not None:
        yield "Group", "s", account_name("group", plan.group)


def _environment(plan: WorkerPlan, settings: Mapping[str, Setting], places: UnitPlaces) -> Iterator[Property]:
    variables = {DEVICE_ORDER: "PCI_BUS_ID", **written_variables(plan, settings)}
    for name, value in variables.items():
        assignment(name, value)
    yield "Environment", "as", [f"{name}={value}" for name, value in variables.items()]
    if directories := search_directories(variables.get("PATH", "")):
        yield "ExecSearchPath", "as", directories
    files = [[environment_file_pattern(life_variables(plan.name, places)), True]]  # True: it may be missing
    if plan.environment_file is not None:
        files.insert(0, [environment_file_pattern(plan.environment_file), False])
    yield "EnvironmentFiles", "a(sb)", files
    taken = OF_THE_WORKER if plan.vram_cap_bytes is None else (*OF_THE_WORKER, UNIFIED_MEMORY)
    yield "UnsetEnvironment", "as", list(taken)


def _ending(timeout_s: float) -> Iterator[Property]:
    # Nothing is left of it, however it ends; no exit status is a failure of the machine's: busy is an answer.
    yield "CollectMode", "s", "inactive-or-failed"
    yield "SuccessExitStatus", "(aiai)", [list(range(1, 256)), []]
    # It is not asked to end, nor is what it leaves behind.
    yield "KillSignal", "i", SIGKILL
    yield "TimeoutStopUSec", "t", round(STOP_S * 1e6)
    # A backstop, for a daemon that is gone.
    yield "TimeoutStartUSec", "t", ceil((timeout_s + BACKSTOP_S) * 1e6)


def _journal(plan: WorkerPlan) -> Iterator[Property]:
    yield "SyslogIdentifier", "s", drain_unit(plan.name).removesuffix(".service")
    yield "LogExtraFields", "aay", [f"WORKER={plan.name}".encode()]
    # A busy worker is asked every second: what the command prints is worth a line, its start and end are not.
    yield "SyslogLevel", "i", NOTICE
    yield "SyslogLevelPrefix", "b", False
    yield "LogLevelMax", "i", NOTICE
