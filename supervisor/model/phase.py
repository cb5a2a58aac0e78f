"""Where a worker is in its life, why it was moved, and how hard memory presses."""

from enum import StrEnum


class Phase(StrEnum):
    """The phases of a worker, in the order in which a life passes through them."""

    STOPPED = "stopped"  # an operator wants it down
    WAITING = "waiting"  # wanted, but held back: backoff, a dependency, a busy GPU, a full machine
    STARTING = "starting"  # launched, not ready yet
    READY = "ready"
    DRAINING = "draining"  # finishing its requests before the stop signal
    STOPPING = "stopping"  # the stop signal was sent
    KILLING = "killing"  # SIGKILL was sent to its whole tree
    RECLAIMING = "reclaiming"  # its main process is gone; its tree or its GPU memory is not yet
    HELD = "held"  # it will not be started again until an operator says so


class Cause(StrEnum):
    """Why a worker was restarted or stopped; carried to the log, the history and the metrics."""

    MEMORY_CAP = "memory-cap"
    VRAM_CAP = "vram-cap"
    AGE = "age"
    LEAK = "leak"
    HOST_MEMORY = "host-memory"
    GPU_MEMORY = "gpu-memory"
    HOST_OOM_KILL = "host-oom-kill"
    HOST_OOM = "host-oom"  # it was refused memory, and ended by itself
    VRAM_OOM = "vram-oom"
    EXIT = "exit"
    CRASH = "crash"
    START_TIMEOUT = "start-timeout"
    UNHEALTHY = "unhealthy"
    HUNG = "hung"
    HEARTBEAT = "heartbeat"
    LADDER = "ladder"  # one rung back up
    OPERATOR = "operator"
    RELOAD = "reload"
    GPU_FAULT = "gpu-fault"


class Pressure(StrEnum):
    """How hard memory presses, on the host or on a GPU."""

    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"
    EXTREME = "extreme"


class Throttle(StrEnum):
    """Why the clocks of a GPU are held down."""

    SW_POWER_CAP = "sw-power-cap"  # its power limit
    HW_SLOWDOWN = "hw-slowdown"  # by the hardware, for one of the two last reasons, or for its own
    SW_THERMAL = "sw-thermal"
    HW_THERMAL = "hw-thermal"
    HW_POWER_BRAKE = "hw-power-brake"  # from outside, by the power supply say


class GpuState(StrEnum):
    """Whether a GPU can be asked and trusted."""

    OK = "ok"
    LOST = "lost"  # fell off the bus, or its handle answers GPU_IS_LOST or Unknown
    HUNG = "hung"  # the driver did not answer within the deadline
    MISMATCH = "mismatch"  # the driver was upgraded underneath its loaded library
    FAILED = "failed"  # it answers errors of another kind
