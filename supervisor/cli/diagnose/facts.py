"""Everything that the checks judge, as it was gathered. Sizes in bytes, times Unix times."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from supervisor.config import Loaded
from supervisor.model.incident import Incident, IncidentDetail
from supervisor.model.plan import GpuPlan, HostPlan, Plan, WorkerPlan
from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuSample, HostSample
from supervisor.model.status import Status, WorkerStatus


class Incidents(Struct, frozen=True):
    """What happened in the last days, the newest first; `details` of the newest where asked for."""

    newest: tuple[Incident, ...] = ()
    details: tuple[IncidentDetail, ...] = ()


class Daemon(Struct, frozen=True):
    """What the daemon answered; `document` is the status as it came."""

    socket: str
    status: Status
    document: bytes
    incidents: Incidents | Missing
    log_dir: str | None = None  # where workers print that are no units


class Away(Struct, frozen=True):
    """Why the daemon was not asked."""

    socket: str
    kind: Literal["not-running", "refused", "silent"]
    why: str


class Owner(Struct, frozen=True):
    """Whose a process on a GPU is; `worker` None: a stranger's."""

    worker: str | None
    command: str
    user: str


class Gpus(Struct, frozen=True):
    """The GPUs, read anew; `missing` is why there is none."""

    gpus: tuple[GpuSample, ...]
    missing: str | None = None


class Driver(Struct, frozen=True):
    """The versions of the NVIDIA driver's two halves, which have to be the same."""

    module: str | Missing  # in the kernel
    library: str | Missing  # what programs load


class Host(Struct, frozen=True):
    """The machine."""

    sample: HostSample
    kernel: str
    cgroup: Literal["v2", "hybrid", "v1"] | Missing
    swaps: tuple[str, ...] | Missing  # the devices and files in use; a zram one is called so


class KernelLine(Struct, frozen=True):
    """One line of the kernel's log."""

    wall_s: float | None
    text: str


class KernelLog(Struct, frozen=True):
    """The kernel's log since boot, as far as it is kept; `source` is where it was read."""

    source: str
    lines: tuple[KernelLine, ...]


class Configuration(Struct, frozen=True):
    """The configuration file: what it came to, its text without secrets, and these, to find them."""

    path: str
    exists: bool
    loaded: Loaded
    text: str | Missing
    secrets: tuple[str, ...] = ()


class FileSeen(Struct, frozen=True):
    """What a file or directory is, but never what is in it."""

    role: Literal["control-socket", "config", "environment-file", "state-dir", "log-dir"]
    path: str
    mode: int | Missing
    owner: str = ""
    group: str = ""
    size_bytes: int = 0
    absent: bool = False


class Access(Struct, frozen=True):
    """Who asks, and what may be done with the files of the daemon."""

    user: str
    groups: tuple[str, ...]
    files: tuple[FileSeen, ...]


class Disk(Struct, frozen=True):
    """The file system that a directory is on; `free_bytes` is what is left for others than root."""

    path: str
    total_bytes: int
    free_bytes: int
    free_files: int | None  # None: it does not count them


class UnitSeen(Struct, frozen=True):
    """A worker's unit as systemd has it in force; None is no limit."""

    worker: str
    loaded: bool
    active: bool
    memory_high_bytes: int | None
    memory_max_bytes: int | None
    swap_max_bytes: int | None
    cpu_quota: float | None  # cores
    drop_ins: tuple[str, ...] = ()
    stale: bool = False  # its files have changed since systemd read them


class ServiceSeen(Struct, frozen=True):
    """The daemon's own unit."""

    active: str
    result: str
    restarts: int
    watchdog_s: float | None


class Units(Struct, frozen=True):
    """What systemd says of the workers and of the daemon; `service` None: there is no such unit."""

    workers: Mapping[str, UnitSeen]
    service: ServiceSeen | None


class Facts(Struct, frozen=True):
    """All of it. Every family may be Missing for itself."""

    version: str
    python: str
    taken_wall_s: float
    daemon: Daemon | Away
    host: Host | Missing
    gpus: Gpus | Missing
    owners: Mapping[int, Owner] | Missing  # of the processes on GPUs, as far as they are to be seen
    driver: Driver | Missing
    kernel_log: KernelLog | Missing
    config: Configuration | Missing
    access: Access | Missing
    disks: tuple[Disk, ...] | Missing
    units: Units | Missing
    incidents: Incidents | Missing
    output: Mapping[str, tuple[str, ...] | Missing]  # the last lines of workers

    @property
    def status(self) -> Status | None:
        """Return the daemon's own word; None where it was not asked."""
        return self.daemon.status if isinstance(self.daemon, Daemon) else None

    @property
    def workers(self) -> tuple[WorkerStatus, ...]:
        """Return the workers that the daemon knows."""
        return self.status.workers if self.status is not None else ()

    @property
    def plan(self) -> Plan | None:
        """Return what the file asks for; None where it is wrong or not readable."""
        return None if isinstance(self.config, Missing) else self.config.loaded.plan

    @property
    def planned(self) -> Mapping[str, WorkerPlan]:
        """Return the workers that the file asks for."""
        return Plan().workers if self.plan is None else self.plan.workers

    @property
    def host_plan(self) -> HostPlan:
        """Return what the file says of the host; the defaults where it is wrong."""
        return HostPlan() if self.plan is None else self.plan.host

    @property
    def gpu_plan(self) -> GpuPlan:
        """Return what the file says of GPUs; the defaults where it is wrong."""
        return GpuPlan() if self.plan is None else self.plan.gpu
