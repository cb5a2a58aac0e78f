from msgspec import structs

from supervisor.daemon.loop import Turn
from supervisor.daemon.meter import Meter
from supervisor.model.memory import Decision, GpuMemory, Memory
from supervisor.model.plan import Plan
from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuSample, HostSample, Sighting, Snapshot

HOST = HostSample(
    read_s=0.0,
    memory_total_bytes=1,
    memory_available_bytes=1,
    memory_free_bytes=1,
    memory_cache_bytes=1,
    swap_total_bytes=1,
    swap_free_bytes=1,
    psi_full_avg10=0.0,
    pages_scanned=1,
)
FINE = GpuSample(
    "GPU-1", 0, "H200", 0.0, memory_total_bytes=2, memory_used_bytes=1, temperature_c=40.0, power_w=9.0
)
SEEN = Sighting("r1", 0.0, memory_bytes=1, memory_file_bytes=1, vram_bytes=1)


def turn(
    took_s: float = 0.0001,
    snapshot: Snapshot = Snapshot(0.0, 0.0, HOST),  # noqa: B008 - a frozen value
    gpus: tuple[GpuMemory | None, GpuMemory | None] = (None, None),
    *,
    looked: bool = True,
) -> Turn:
    """Return a turn after which GPU-1 went from one memory to the other."""
    before, after = (Memory("i", {}, gpus={} if gpu is None else {"GPU-1": gpu}) for gpu in gpus)
    return Turn(Plan(), before, snapshot, (), Decision((), after), (), looked, took_s)


def test_turns_are_counted_by_how_long_they_took() -> None:
    meter = Meter(7, 1.0)
    for took_s in (0.0004, 0.0005, 0.0006, 0.3, 5.0):
        meter.count(turn(took_s))
    status = meter.status(dropped=3)
    assert (status.pid, status.started_wall_s, status.history_dropped) == (7, 1.0, 3)
    assert status.turn_bounds_s == (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
    assert status.turn_counts == (2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1)
    assert status.turns == 5
    assert status.turns_s == 5.3015


def test_a_quarantine_is_counted_when_it_begins() -> None:
    meter = Meter(7, 1.0)
    hung = GpuMemory(quarantine="it hung")
    for before, after in ((None, hung), (hung, hung), (hung, GpuMemory()), (GpuMemory(), hung), (hung, None)):
        meter.count(turn(gpus=(before, after)))
    assert meter.status(0).quarantines == 2


def test_a_reading_that_could_not_be_had_is_counted_at_each_look() -> None:
    lost, why = (
        structs.replace(FINE, temperature_c=Missing("denied"), power_w=Missing("denied")),
        Missing("gone"),
    )
    seen = structs.replace(SEEN, vram_bytes=why)
    host = structs.replace(HOST, psi_full_avg10=why)
    meter = Meter(7, 1.0)
    meter.count(turn(snapshot=Snapshot(0.0, 0.0, host, (lost,), workers={"chat": seen})))
    assert meter.status(0).readings_missing == 4
    meter.count(turn(snapshot=Snapshot(0.0, 0.0, host, (lost,), workers={"chat": seen}), looked=False))
    assert meter.status(0).readings_missing == 4


def test_on_a_machine_without_a_gpu_nobody_misses_gpu_memory() -> None:
    meter = Meter(7, 1.0)
    seen = structs.replace(SEEN, vram_bytes=Missing("no GPU"))
    meter.count(turn(snapshot=Snapshot(0.0, 0.0, HOST, workers={"chat": seen})))
    assert meter.status(0).readings_missing == 0
