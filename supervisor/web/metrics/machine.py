"""The families of the host and of each GPU."""

from collections.abc import Iterator
from typing import Final

from supervisor.model.phase import GpuState, Pressure, Throttle
from supervisor.model.status import GpuStatus, HostStatus
from supervisor.web.metrics.family import Family, Point, counter, gauge, info, states, unix_time

HOST: Final[tuple[Family[HostStatus], ...]] = (
    gauge("host_memory_total_bytes", "Memory of the machine", lambda host: host.memory_total_bytes),
    gauge(
        "host_memory_available_bytes",
        "What can be had without swapping (MemAvailable)",
        lambda host: host.memory_available_bytes,
    ),
    gauge("host_swap_used_bytes", "Swap in use", lambda host: host.swap_used_bytes),
    gauge(
        "host_memory_stalled_ratio",
        "Share of the last 10 s in which all tasks waited for memory (PSI full avg10)",
        lambda host: _ratio(host.psi_full_avg10),
    ),
    states(
        "host_pressure",
        "Level of the host's memory, judged by the host section of the config: 1 for the level that it is at",
        "level",
        Pressure,
        lambda host: host.pressure,
    ),
)


def _ratio(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def _throttled(gpu: GpuStatus) -> Iterator[Point]:
    if gpu.throttle is None:
        return
    for reason in Throttle:
        yield "", {"reason": reason.value}, float(reason in gpu.throttle)


def _last_xid(gpu: GpuStatus) -> Iterator[Point]:
    if gpu.last_xid is not None:
        yield "", {"code": str(gpu.last_xid.code)}, unix_time(gpu.last_xid.at)


GPU: Final[tuple[Family[GpuStatus], ...]] = (
    info("gpu", "What the GPU is", ("name",), lambda gpu: {"name": gpu.name}),
    gauge("gpu_memory_total_bytes", "Memory of the GPU", lambda gpu: gpu.memory_total_bytes),
    gauge(
        "gpu_memory_used_bytes", "Memory in use on the GPU, by whomever", lambda gpu: gpu.memory_used_bytes
    ),
    gauge("gpu_temperature_celsius", "Temperature of the GPU", lambda gpu: gpu.temperature_c),
    gauge("gpu_power_watts", "Power drawn by the GPU", lambda gpu: gpu.power_w),
    gauge("gpu_power_limit_watts", "Enforced limit of the GPU's power", lambda gpu: gpu.power_limit_w),
    gauge(
        "gpu_utilization_ratio",
        "Share of the time in which a kernel ran on the GPU",
        lambda gpu: _ratio(gpu.utilization_percent),
    ),
    states(
        "gpu_pressure",
        "Level of the GPU's memory, judged by gpu.pressure of the config: 1 for the level that it is at",
        "level",
        Pressure,
        lambda gpu: gpu.pressure,
    ),
    states(
        "gpu_state",
        "Whether the GPU can be asked and trusted: 1 for the state that it is in",
        "state",
        GpuState,
        lambda gpu: gpu.state,
    ),
    gauge(
        "gpu_read_age_seconds",
        "Age of what is told of the GPU: it grows while the driver does not answer",
        lambda gpu: gpu.read_age_s,
    ),
    Family(
        "gpu_throttled",
        "gauge",
        "Whether the GPU's clocks are held down: 1 for each reason that holds them",
        _throttled,
        ("reason",),
    ),
    counter(
        "gpu_xid_errors", "Xid errors of the GPU in the kernel's log, since the boot", lambda gpu: gpu.xids
    ),
    Family(
        "gpu_last_xid_timestamp_seconds",
        "gauge",
        "Unix time of the GPU's last Xid error, with its code",
        _last_xid,
        ("code",),
    ),
    gauge(
        "gpu_quarantined",
        "1 while no worker is started on the GPU",
        lambda gpu: float(gpu.quarantine is not None),
    ),
)
