"""What the conditions of alerts read of a GPU, a worker or the machine, by the names of `READINGS`."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from supervisor.decide.leak import forecast
from supervisor.decide.trend import LEAST_FLOORS
from supervisor.model.headroom import gpu_memory
from supervisor.model.memory import GpuMemory, Life, Memory, WorkerMemory
from supervisor.model.phase import Phase, Throttle
from supervisor.model.plan import Plan, RestartRule
from supervisor.model.reading import NOT_READ_YET, Missing
from supervisor.model.snapshot import GpuSample, Sighting, Snapshot


class Nothing(Struct, frozen=True):
    """There is no such thing to read, which is no lack of a reading: the age of a worker that is stopped."""


NOTHING: Final = Nothing()
Value = float | str | bool | Missing | Nothing
_NO_SAMPLE: Final = GpuSample("", 0, "", 0.0)


class World(Struct, frozen=True):
    """All that can be read in one turn."""

    plan: Plan
    memory: Memory
    snapshot: Snapshot
    phases: Mapping[Phase, int]  # how many workers are in each


def world_of(plan: Plan, memory: Memory, snapshot: Snapshot) -> World:
    """Return the world, its workers counted: once, however many subjects a rule has."""
    return World(plan, memory, snapshot, Counter(one.phase for one in memory.workers.values()))


class View(Struct, frozen=True):
    """The world as seen from one subject: a GPU, a worker, or with neither the machine."""

    world: World
    gpu: GpuSample = _NO_SAMPLE
    worker: WorkerMemory = WorkerMemory("")

    @property
    def now_s(self) -> float:
        """The monotonic time of the turn."""
        return self.world.snapshot.taken_s

    @property
    def of_gpu(self) -> GpuMemory:
        """What is remembered of the GPU."""
        return self.world.memory.gpus.get(self.gpu.uuid, GpuMemory())

    @property
    def seen(self) -> Sighting | None:
        """What was seen of the worker's life."""
        seen, life = self.world.snapshot.workers.get(self.worker.name), self.worker.life
        return seen if seen is not None and life is not None and seen.run == life.run else None


Read = Callable[[View], Value]


def _gpu_used(view: View) -> Value:
    return gpu_memory(view.gpu, view.world.snapshot.host)[1]


def _gpu_total(view: View) -> Value:
    return gpu_memory(view.gpu, view.world.snapshot.host)[0]


def _gpu_free(view: View) -> Value:
    total, used = gpu_memory(view.gpu, view.world.snapshot.host)
    return total if isinstance(total, Missing) else _minus(total, used)


def _minus(total: int | Missing, part: int | Missing) -> Value:
    if isinstance(total, Missing):
        return total
    return part if isinstance(part, Missing) else total - part


def _gpu_pressure(view: View) -> Value:
    return view.of_gpu.pressure.value if view.of_gpu.known else Missing("its memory could not be read")


def _gpu_hot(view: View) -> Value:
    celsius = view.gpu.temperature_c
    return celsius if isinstance(celsius, Missing) else view.of_gpu.hot


def _gpu_throttled(view: View) -> Value:
    why = view.gpu.throttle
    return why if isinstance(why, Missing) else any(one is not Throttle.SW_POWER_CAP for one in why)


def _of_life(read: Callable[[View, Life], Value]) -> Read:
    """Return a reading of a worker's life; a worker without one has nothing to read."""

    def of_worker(view: View) -> Value:
        life = view.worker.life
        return NOTHING if life is None else read(view, life)

    return of_worker


def _seen(read: Callable[[Sighting], Value]) -> Read:
    """Return a reading of a worker's processes."""

    def of_life(view: View, _: Life) -> Value:
        seen = view.seen
        return NOT_READ_YET if seen is None else read(seen)

    return _of_life(of_life)


def _forecast_s(view: View, life: Life) -> Value:
    """Return how long until the cap is reached; unknown until there are floors enough to find a rise."""
    caps = (
        (life.plan.memory.cap_bytes, life.memory_trend),
        (life.plan.vram_cap_bytes, life.vram_trend),
    )
    capped = [trend for cap, trend in caps if cap is not None]
    if not capped or view.worker.phase is not Phase.READY:
        return NOTHING
    found = forecast(life, view.now_s)
    if found is not None:
        return found.in_s
    short = any(len(trend.floors) < LEAST_FLOORS for trend in capped)
    return Missing("it was not seen for long enough") if short else NOTHING


def _failures(view: View) -> Value:
    worker = view.worker
    if not worker.failures_s and not worker.other_failures_s:
        return 0
    plan = view.world.plan.workers.get(worker.name)
    rule = RestartRule() if plan is None else plan.restart
    times = [*worker.failures_s, *(at for each in worker.other_failures_s.values() for at in each)]
    return sum(1 for at in times if view.now_s - at < rule.within_s)


def _report_age_s(view: View, life: Life) -> Value:
    return _unheard(life) if life.reported_s is None else max(0.0, view.now_s - life.reported_s)


def _reported(_: View, life: Life) -> Value:
    if life.report is None:
        return _unheard(life)
    return NOTHING if life.report.level is None else life.report.level.value


def _unheard(life: Life) -> Value:
    """Return what is known of a guard that this daemon has not heard yet; an earlier one may have."""
    return NOTHING if life.told.told_s is None else NOT_READ_YET


def _swap_used(view: View) -> Value:
    host = view.world.snapshot.host
    return _minus(host.swap_total_bytes, host.swap_free_bytes)


def _host_used(view: View) -> Value:
    host = view.world.snapshot.host
    return _minus(host.memory_total_bytes, host.memory_available_bytes)


def _gpus(view: View) -> Value:
    snapshot = view.world.snapshot
    return NOT_READ_YET if not snapshot.gpus and snapshot.gpu_missing is None else len(snapshot.gpus)


def _workers_in(phase: Phase) -> Read:
    return lambda view: view.world.phases.get(phase, 0)


READ: Final[Mapping[str, Read]] = {
    "gpu.used": _gpu_used,
    "gpu.free": _gpu_free,
    "gpu.temperature": lambda view: view.gpu.temperature_c,
    "gpu.power": lambda view: view.gpu.power_w,
    "gpu.utilization": lambda view: view.gpu.utilization_percent,
    "gpu.pressure": _gpu_pressure,
    "gpu.state": lambda view: view.gpu.state.value,
    "gpu.quarantined": lambda view: view.of_gpu.quarantine is not None,
    "gpu.hot": _gpu_hot,
    "gpu.throttled": _gpu_throttled,
    "gpu.xids": lambda view: view.of_gpu.xids,
    "gpu.read_age": lambda view: max(0.0, view.now_s - view.gpu.read_s),
    "worker.memory": _seen(lambda seen: seen.memory_bytes),
    "worker.memory_file": _seen(lambda seen: seen.memory_file_bytes),
    "worker.vram": _seen(lambda seen: seen.vram_bytes),
    "worker.forecast": _of_life(_forecast_s),
    "worker.phase": lambda view: view.worker.phase.value,
    "worker.held": lambda view: view.worker.phase is Phase.HELD,
    "worker.rung": lambda view: view.worker.rung,
    "worker.restarts": lambda view: view.worker.restarts,
    "worker.failures": _failures,
    "worker.oom_events": lambda view: view.worker.oom_events,
    "worker.age": _of_life(lambda view, life: max(0.0, view.now_s - life.launched_s)),
    "worker.phase_age": lambda view: max(0.0, view.now_s - view.worker.since_s),
    "worker.report_age": _of_life(_report_age_s),
    "worker.reported": _of_life(_reported),
    "worker.processes": _seen(lambda seen: len(seen.pids)),
    "host.available": lambda view: view.world.snapshot.host.memory_available_bytes,
    "host.used": _host_used,
    "host.swap_used": _swap_used,
    "host.psi": lambda view: view.world.snapshot.host.psi_full_avg10,
    "host.pressure": lambda view: view.world.memory.host.pressure.value,
    "supervisor.gpus": _gpus,
    "supervisor.ready": _workers_in(Phase.READY),
    "supervisor.held": _workers_in(Phase.HELD),
}


def _memory_cap(view: View) -> Value:
    cap = None if view.worker.life is None else view.worker.life.plan.memory.cap_bytes
    return NOTHING if cap is None else cap


def _vram_cap(view: View) -> Value:
    cap = None if view.worker.life is None else view.worker.life.plan.vram_cap_bytes
    return NOTHING if cap is None else cap


def _host_total(view: View) -> Value:
    return view.world.snapshot.host.memory_total_bytes


WHOLE: Final[Mapping[str, Read]] = {
    "gpu.used": _gpu_total,
    "gpu.free": _gpu_total,
    "gpu.power": lambda view: view.gpu.power_limit_w,
    "worker.memory": _memory_cap,
    "worker.memory_file": _memory_cap,
    "worker.vram": _vram_cap,
    "host.available": _host_total,
    "host.used": _host_total,
    "host.swap_used": lambda view: view.world.snapshot.host.swap_total_bytes,
}
"""What 100% of a reading is, for those of which a percentage can be asked."""
