"""Reads one GPU into one line for the client. Runs in the helper."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from supervisor.sense.gpu import nvml
from supervisor.sense.gpu.wire import Fault, GpuLine
from supervisor.sense.pid_namespace import why_not_ours

# A GPU whose memory is this near to the machine's is taken to share it (GB10 with some drivers). A card
# beside as much RAM is farther off: the kernel keeps at least 1.5 % of RAM for its page structures.
SAME_MEMORY: Final = 0.005

# nvml.h: nvmlClocksEventReason...; a hardware slowdown comes with the reason for it where that is known.
THROTTLE: Final = {
    0x4: "sw-power-cap",
    0x8: "hw-slowdown",
    0x20: "sw-thermal",
    0x40: "hw-thermal",
    0x80: "hw-power-brake",
}


class HostFacts(NamedTuple):
    """What must be known of the machine to judge what the driver says."""

    pid_max: int
    memory_total_bytes: int
    pids_fault: str | None  # why the driver's pids are not ours


def host_facts(proc: Path) -> HostFacts:
    """Read the facts from `proc`, which is /proc."""
    lines = (proc / "meminfo").read_text().splitlines()
    total_kib = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal:"))
    pid_max = int((proc / "sys/kernel/pid_max").read_text())
    return HostFacts(pid_max, total_kib * 1024, why_not_ours(proc, "the driver"))


def read_gpu(index: int, facts: HostFacts) -> GpuLine:
    """Read everything about the GPU at `index`; an error of the driver is in the line."""
    line = _empty(index)
    try:
        gpu = nvml.handle(index)
        line["uuid"] = nvml.uuid(gpu)
        line["name"] = nvml.name(gpu)
        line["bus_id"] = _bus_id(gpu)
        _read_memory(gpu, line, facts)
        line["temperature_c"] = _optional("the temperature", nvml.temperature, gpu)
        line["power_mw"] = _optional("the power", nvml.power_mw, gpu)
        line["power_limit_mw"] = _optional("the power limit", nvml.power_limit_mw, gpu)
        line["utilization_percent"] = _optional("the utilization", nvml.utilization, gpu)
        line["throttle"] = _throttle(gpu)
        line["processes"] = facts.pids_fault or _read_processes(gpu, facts.pid_max)
    except nvml.DriverError as error:
        line["fault"] = Fault(code=error.code, text=str(error))
    return line


def united(lists: Sequence[Sequence[nvml.Entry]], pid_max: int) -> list[tuple[int, int | str]] | str:
    """Unite process lists to one entry a pid, with the greatest size that any of them tells.

    One pid can be in several lists with the same memory. An impossible pid means that the driver fills
    another struct than we read, so that nothing in the list can be believed.
    """
    sizes: dict[int, int] = {}
    for pid, used_bytes in (entry for entries in lists for entry in entries):
        if not 0 < pid <= pid_max:
            return f"the driver's process list is distrusted: it names pid {pid}"
        told_bytes = 0 if used_bytes == nvml.NOT_AVAILABLE else used_bytes
        sizes[pid] = max(sizes.get(pid, 0), told_bytes)
    return [(pid, size or "the driver does not tell its memory") for pid, size in sorted(sizes.items())]


def _empty(index: int) -> GpuLine:
    none = "not read"
    return GpuLine(
        index=index,
        read_s=time.monotonic(),
        uuid=None,
        name="",
        fault=None,
        unified=False,
        memory_total_bytes=none,
        memory_used_bytes=none,
        temperature_c=none,
        power_mw=none,
        power_limit_mw=none,
        utilization_percent=none,
        processes=none,
        bus_id="",
        throttle=none,
    )


def _read_memory(gpu: nvml.Handle, line: GpuLine, facts: HostFacts) -> None:
    """Read the one thing without which a GPU is not well: any error but these is its fault."""
    try:
        total, used = nvml.memory(gpu)
    except nvml.DriverError as error:
        if error.code not in {nvml.NOT_SUPPORTED, nvml.NO_PERMISSION}:
            raise
        line["unified"] = error.code == nvml.NOT_SUPPORTED
        total = used = nvml.NOT_AVAILABLE
        why = _why("its memory", error)
    else:
        line["unified"] = total == 0 or abs(total - facts.memory_total_bytes) < SAME_MEMORY * total
        why = "the driver does not tell its memory"
    if line["unified"]:
        why = "it shares the machine's RAM"
    hidden = line["unified"] or nvml.NOT_AVAILABLE in {total, used}
    line["memory_total_bytes"] = why if hidden else total
    line["memory_used_bytes"] = why if hidden else used


def _read_processes(gpu: nvml.Handle, pid_max: int) -> list[tuple[int, int | str]] | str:
    lists: list[Sequence[nvml.Entry]] = []
    for what, read in (("compute", nvml.compute), ("graphics", nvml.graphics), ("MPS", nvml.mps)):
        try:
            lists.append(read(gpu))
        except nvml.DriverError as error:
            _raise_if_gone(error)
            if what == "compute" or error.code not in nvml.TRY_OLDER:
                return _why(f"its {what} processes", error)
    return united(lists, pid_max)


def _bus_id(gpu: nvml.Handle) -> str:
    try:
        return nvml.bus_id(gpu)
    except nvml.DriverError as error:
        _raise_if_gone(error)
        return ""


def _throttle(gpu: nvml.Handle) -> list[str] | str:
    """Return why the clocks are held down; not that it idles, or that somebody has set them so."""
    bits = _optional("the throttle reasons", nvml.throttle, gpu)
    if isinstance(bits, str):
        return bits
    return [name for bit, name in THROTTLE.items() if bits & bit]


def _optional(what: str, read: Callable[[nvml.Handle], int], gpu: nvml.Handle) -> int | str:
    try:
        return read(gpu)
    except nvml.DriverError as error:
        _raise_if_gone(error)
        return _why(what, error)


def _raise_if_gone(error: nvml.DriverError) -> None:
    """Let through what concerns the whole GPU. Unknown does not: some laptops answer it for power alone."""
    if error.code in {nvml.GPU_IS_LOST, nvml.LIBRARY_MISMATCH}:
        raise error


def _why(what: str, error: nvml.DriverError) -> str:
    if error.code in {nvml.NOT_SUPPORTED, nvml.FUNCTION_NOT_FOUND}:
        return f"{what}: not supported"
    return f"cannot read {what}: {error}"
