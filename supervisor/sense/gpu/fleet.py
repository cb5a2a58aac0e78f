"""What is known of every GPU, by UUID, as lines come in. Pure: takes a fleet, returns the next one."""

from collections.abc import Collection, Mapping
from typing import Final

from msgspec.structs import replace

from supervisor.model.phase import GpuState, Throttle
from supervisor.model.reading import NOT_READ_YET, Missing
from supervisor.model.snapshot import GpuProcess, GpuSample
from supervisor.model.xid import bus_address
from supervisor.sense.gpu.wire import Fault, GpuLine

Fleet = Mapping[str, GpuSample]

# GPU_IS_LOST, GPU_NOT_FOUND, and Unknown, which many drivers answer for a GPU that fell off the bus.
LOST_CODES: Final = frozenset({15, 28, 999})
MISMATCH_CODE: Final = 18  # LIB_RM_VERSION_MISMATCH

# Stands for the UUID of a GPU that could never be asked for it.
NAMELESS: Final = "index-"


def told(fleet: Fleet, line: GpuLine) -> tuple[Fleet, str]:
    """Take in one line; return the fleet and the UUID that the line was about."""
    uuid = line["uuid"] or uuid_at(fleet, line["index"])
    fault = line["fault"]
    if fault is None:
        return {**fleet, uuid: _read(uuid, line)}, uuid
    sample = fleet.get(uuid) or _nameless(uuid, line["index"])
    sample = replace(
        sample,
        index=line["index"],
        name=line["name"] or sample.name,
        read_s=line["read_s"],
        bus_id=_bus_id(line) if line["bus_id"] else sample.bus_id,
    )
    return {**fleet, uuid: _faulted(sample, state_of(fault), fault["text"])}, uuid


def silent(fleet: Fleet, index: int, state: GpuState, why: str) -> Fleet:
    """Mark the GPU at `index` as one that gave no answer; it keeps its older `read_s`."""
    uuid = uuid_at(fleet, index)
    sample = fleet.get(uuid) or _nameless(uuid, index)
    return {**fleet, uuid: _faulted(sample, state, why)}


def all_silent(fleet: Fleet, state: GpuState, why: str) -> Fleet:
    """Mark every GPU as one that gave no answer."""
    return {uuid: _faulted(sample, state, why) for uuid, sample in fleet.items()}


def settled(fleet: Fleet, seen: Collection[str], skipped: Collection[int]) -> Fleet:
    """End a round: who was neither seen nor skipped is not listed any more, and is lost."""
    kept: dict[str, GpuSample] = {}
    for uuid, sample in fleet.items():
        if uuid in seen or sample.index in skipped:
            kept[uuid] = sample
        elif not uuid.startswith(NAMELESS):
            kept[uuid] = _faulted(sample, GpuState.LOST, "the driver does not list it any more")
    return kept


def state_of(fault: Fault) -> GpuState:
    """Return what an error of the driver says about a GPU."""
    if fault["code"] in LOST_CODES:
        return GpuState.LOST
    return GpuState.MISMATCH if fault["code"] == MISMATCH_CODE else GpuState.FAILED


def uuid_at(fleet: Fleet, index: int) -> str:
    """Return the UUID last seen at `index`, or a stand-in for one never seen."""
    return next((sample.uuid for sample in fleet.values() if sample.index == index), f"{NAMELESS}{index}")


def _read(uuid: str, line: GpuLine) -> GpuSample:
    processes = line["processes"]
    return GpuSample(
        uuid=uuid,
        index=line["index"],
        name=line["name"],
        read_s=line["read_s"],
        memory_total_bytes=_reading(line["memory_total_bytes"]),
        memory_used_bytes=_reading(line["memory_used_bytes"]),
        temperature_c=_reading(line["temperature_c"]),
        power_w=_watts(line["power_mw"]),
        power_limit_w=_watts(line["power_limit_mw"]),
        utilization_percent=_reading(line["utilization_percent"]),
        unified=line["unified"],
        processes=Missing(processes)
        if isinstance(processes, str)
        else tuple(GpuProcess(pid, _reading(size)) for pid, size in processes),
        bus_id=_bus_id(line),
        throttle=_throttle(line["throttle"]),
    )


def _bus_id(line: GpuLine) -> str | Missing:
    return bus_address(line["bus_id"]) or Missing("the driver does not tell its PCI address")


def _throttle(told: list[str] | str) -> tuple[Throttle, ...] | Missing:
    return Missing(told) if isinstance(told, str) else tuple(one for one in Throttle if one in told)


def _reading(value: int | str) -> int | Missing:
    return Missing(value) if isinstance(value, str) else value


def _watts(milliwatts: int | str) -> float | Missing:
    return Missing(milliwatts) if isinstance(milliwatts, str) else milliwatts / 1000


def _nameless(uuid: str, index: int) -> GpuSample:
    return GpuSample(uuid=uuid, index=index, name="unknown GPU", read_s=0.0)


def _faulted(sample: GpuSample, state: GpuState, why: str) -> GpuSample:
    """Return the GPU without readings: an old number beside a fault would be taken for a new one."""
    missing = Missing(why)
    total = sample.memory_total_bytes
    return replace(
        sample,
        state=state,
        fault=why,
        memory_total_bytes=missing if total == NOT_READ_YET else total,  # it does not change
        memory_used_bytes=missing,
        temperature_c=missing,
        power_w=missing,
        power_limit_w=missing,
        utilization_percent=missing,
        processes=missing,
        throttle=missing,
    )
