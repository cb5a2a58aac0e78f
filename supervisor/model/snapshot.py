"""What was seen in one turn of the loop. Sizes in bytes, times monotonic unless said otherwise."""

from collections.abc import Mapping

from msgspec import Struct

from supervisor.model.phase import GpuState, Throttle
from supervisor.model.reading import NOT_READ_YET, Missing


class Identity(Struct, frozen=True):
    """One process and no other: a pid is reused, the three together are not."""

    boot_id: str
    pid: int
    start_ticks: int  # field 22 of /proc/PID/stat, clock ticks since boot


class HostSample(Struct, frozen=True):
    """The machine's memory at `read_s`. `free` is MemFree, which a host without swap can run out of first."""

    read_s: float
    memory_total_bytes: int | Missing = NOT_READ_YET
    memory_available_bytes: int | Missing = NOT_READ_YET
    memory_free_bytes: int | Missing = NOT_READ_YET
    memory_cache_bytes: int | Missing = NOT_READ_YET  # Buffers + Cached - Shmem: the page cache proper
    memory_per_cpu_bytes: int | Missing = (
        NOT_READ_YET  # free, on lists of the CPUs; read where memory is short
    )
    swap_total_bytes: int | Missing = NOT_READ_YET
    swap_free_bytes: int | Missing = NOT_READ_YET
    psi_full_avg10: float | Missing = NOT_READ_YET  # percent of wall time
    pages_scanned: int | Missing = NOT_READ_YET  # pgscan of kswapd and direct reclaim since boot


class GpuProcess(Struct, frozen=True):
    """One process on a GPU, named by a pid of the initial namespace."""

    pid: int
    memory_bytes: int | Missing


class GpuSample(Struct, frozen=True):
    """One GPU as of `read_s`. Keyed by `uuid`: an index changes when a GPU is lost."""

    uuid: str
    index: int
    name: str
    read_s: float
    state: GpuState = GpuState.OK
    fault: str | None = None  # what it answered, where `state` is not ok
    memory_total_bytes: int | Missing = NOT_READ_YET
    memory_used_bytes: int | Missing = NOT_READ_YET
    temperature_c: float | Missing = NOT_READ_YET
    power_w: float | Missing = NOT_READ_YET
    power_limit_w: float | Missing = NOT_READ_YET
    utilization_percent: float | Missing = NOT_READ_YET
    unified: bool = False  # shares the machine's RAM: Jetson, GB10
    processes: tuple[GpuProcess, ...] | Missing = NOT_READ_YET  # C, G and MPS lists united, one entry a pid
    bus_id: str | Missing = NOT_READ_YET  # `0000:3b:00`, as the kernel's log names it
    throttle: tuple[Throttle, ...] | Missing = (
        NOT_READ_YET  # why its clocks are held down; empty: they are not
    )


class Sighting(Struct, frozen=True):
    """One life of one worker as of `read_s`: its whole process tree."""

    run: str
    read_s: float
    pids: tuple[int, ...] = ()  # live processes of the tree, main process included while it lives
    memory_bytes: int | Missing = NOT_READ_YET  # anon + shmem + swap
    memory_file_bytes: int | Missing = NOT_READ_YET  # mapped files: shown, never capped
    vram_read_s: float = 0.0
    vram_bytes: int | Missing = NOT_READ_YET  # over all its GPUs
    vram_by_gpu: Mapping[str, int] = {}
    cpu_s: float | Missing = NOT_READ_YET  # used by `pids` so far; read where progress is judged by it


class Snapshot(Struct, frozen=True):
    """Everything a decision may look at. A part that was not read again keeps its older `read_s`."""

    taken_s: float
    wall_s: float  # Unix time, for showing only
    host: HostSample
    gpus: tuple[GpuSample, ...] = ()
    gpu_missing: str | None = None  # why no GPU is known
    workers: Mapping[str, Sighting] = {}
