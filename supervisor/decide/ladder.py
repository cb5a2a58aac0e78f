"""Which rung of its ladder a worker is on: one down at each out-of-memory death, up again where asked for."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from supervisor.decide.scratch import Scratch
from supervisor.model.action import Notice
from supervisor.model.fit import is_auto
from supervisor.model.memory import Footing, Life, Pending, WorkerMemory
from supervisor.model.phase import Cause
from supervisor.model.plan import Setting, WorkerPlan
from supervisor.model.quantity import format_size, format_span
from supervisor.model.rungs import MadeRung
from supervisor.model.template import names_in, written

GPU_LAYERS: Final = "n_gpu_layers"
# Out of GPU memory so often, a worker whose ladder has no rung left goes to the CPU.
EVENTS_TO_CPU: Final = 3


class Step(Struct, frozen=True):
    """What follows an out-of-memory death: the rung to go on with, and that in words."""

    rung: int
    words: str
    held: bool = False
    made: tuple[MadeRung, ...] = ()


def plan_on(worker: WorkerMemory, plan: WorkerPlan, rung: int | None = None) -> WorkerPlan:
    """Return the plan as it is started on a rung, the worker's own if none is given: command and settings."""
    rung = worker.rung if rung is None else rung
    if worker.made:
        if rung == 0 or worker.footing is None or worker.footing.key != footing_of(plan, ()).key:
            return plan  # its ladder is about to begin anew
        made = worker.made[min(rung, len(worker.made)) - 1]
        return replace(plan, command=made.command, settings=made.settings)
    return replace(plan, settings=settings_on(plan, rung)) if rung else plan


def settings_on(plan: WorkerPlan, rung: int) -> Mapping[str, Setting]:
    """Return the settings on a rung: the worker's own, overlaid by every rung down to this one.

    Rung 0 is before the ladder; one beyond its end is the CPU.
    """
    settings = dict(plan.settings)
    for differences in plan.ladder[:rung]:
        settings |= differences
    if rung > len(plan.ladder):
        settings[GPU_LAYERS] = 0
    return settings


def on_cpu(worker: WorkerMemory, plan: WorkerPlan) -> bool:
    """Say whether its rung has brought the worker to the CPU: no layer on a GPU, so it needs to see none."""
    if any(made.on_cpu for made in worker.made[: worker.rung]):
        return True
    settings = plan_on(worker, plan).settings
    return worker.rung > 0 and not _without_layers(plan.settings) and _without_layers(settings)


def _without_layers(settings: Mapping[str, Setting]) -> bool:
    return GPU_LAYERS in settings and written(settings[GPU_LAYERS]) == "0"


def next_step(worker: WorkerMemory, plan: WorkerPlan, *, device: bool) -> Step:
    """Return what follows the newest of `worker.oom_events`; `device`: it was a GPU's memory.

    A rung that changes nothing is passed over. For want of the machine's memory the CPU is no refuge.
    """
    for rung in range(worker.rung + 1, len(plan.ladder) + 1):
        if (changed := _changes(worker, plan, (worker.rung, rung))) != "":
            return Step(rung, f"next with {changed} (rung {rung} of {len(plan.ladder)})")
    if device and plan.gpus.kind != "none" and _can_leave_gpu(plan, worker.rung):
        left = EVENTS_TO_CPU - worker.oom_events
        if left <= 0:
            beyond = len(plan.ladder) + 1
            changed = _changes(worker, plan, (worker.rung, beyond))
            return Step(beyond, f"next on the CPU: {changed}, no GPU visible")
        same = "its ladder ends here" if plan.ladder else "no ladder is written"
        times = "once more" if left == 1 else f"{left} times more"
        again = "the same settings again"
        if any(is_auto(name, value) for name, value in settings_on(plan, worker.rung).items()):
            again = "what is auto is chosen again, and less of it"
        return Step(worker.rung, f"{same}: {again}, and the CPU if it happens {times}")
    if plan.ladder or worker.rung > 0:
        ends = f"its ladder has no rung left: `gpu-supervisor reset {worker.name}` begins it anew"
        return Step(worker.rung, ends, held=True)
    return Step(worker.rung, "no ladder is written, so it goes on with the same settings")


def _can_leave_gpu(plan: WorkerPlan, rung: int) -> bool:
    settings = settings_on(plan, rung)
    return GPU_LAYERS in settings and not _without_layers(settings) and GPU_LAYERS in _used(plan)


def next_made(
    worker: WorkerMemory, life: Life, offered: MadeRung | None, cpu: MadeRung | None
) -> Step | None:
    """Return the rung that was reckoned for a worker without a written ladder; None where none was.

    `cpu` is one on the CPU, for want of a GPU's memory: at the third time, or where nothing else helps.
    """
    often = worker.rung + 1 >= EVENTS_TO_CPU or (not worker.made and worker.oom_events >= EVENTS_TO_CPU)
    to_cpu = cpu is not None and (offered is None or often)
    chosen = cpu if to_cpu else offered
    if chosen is None:
        if not worker.made:
            return None
        ends = f"the reckoning knows of nothing smaller: `gpu-supervisor reset {worker.name}` begins anew"
        return Step(worker.rung, ends, held=True, made=worker.made)
    made = (*worker.made[: worker.rung], chosen)
    rung = len(made)
    changed = _differences({**chosen.was, **life.settings}, chosen.settings, _used_in(chosen.command))
    if to_cpu:
        return Step(rung, f"next on the CPU: {changed}, no GPU visible (rung {rung}, made)", made=made)
    sizes = f"{format_size(chosen.before_bytes)} -> {format_size(chosen.needs_bytes)}"
    return Step(rung, f"next with {changed} (rung {rung}, made: reckoned {sizes} of what ran out)", made=made)


def _changes(worker: WorkerMemory, plan: WorkerPlan, rungs: tuple[int, int]) -> str:
    """Return what differs for the worker between two rungs, as `ctx 4096 -> 2048`."""
    was = {name: value for made in reversed(worker.made) for name, value in made.was.items()}
    old, new = (plan_on(worker, plan, rung) for rung in rungs)
    used = _used(old) | _used(new)
    return _differences({**was, **old.settings}, {**was, **new.settings}, used)


def _differences(before: Mapping[str, Setting], after: Mapping[str, Setting], used: frozenset[str]) -> str:
    names = [name for name in after if name in used and name in before and before[name] != after[name]]
    return ", ".join(f"{name} {written(before[name])} -> {written(after[name])}" for name in names)


def _used(plan: WorkerPlan) -> frozenset[str]:
    return _used_in((*plan.command, *plan.environment.values()))


def _used_in(texts: Sequence[str]) -> frozenset[str]:
    return frozenset[str]().union(*(names_in(text) for text in texts))


def footing_of(plan: WorkerPlan, gpus: tuple[str, ...]) -> Footing:
    """Return what a rung is found for: command, settings, ladder, environment, and the GPUs."""
    ladder = (plan.ladder, plan.makes_ladder)
    wanted = (plan.command, plan.settings, ladder, plan.environment, plan.gpus)
    return Footing(blake2b(msgspec.json.encode(wanted), digest_size=8).hexdigest(), gpus)


def begin_anew(
    scratch: Scratch, worker: WorkerMemory, plan: WorkerPlan, gpus: tuple[str, ...]
) -> WorkerMemory:
    """Forget the rung of a worker that is to start where what it was found for has changed.

    `gpus` are those that it would get without a ladder, empty where that is not known.
    """
    past = worker.footing
    if past is None:
        return worker
    others = plan.gpus.kind == "listed" and bool(past.gpus and gpus) and past.gpus != gpus
    if past.key == footing_of(plan, ()).key and not others:
        return worker
    if worker.rung:
        why = "its command, settings, ladder, environment or GPUs are others than those that it was found for"
        scratch.tell(Notice("info", "ladder begun anew", why, worker=worker.name, fields={"rung": 0}))
    return scratch.put(replace(worker, rung=0, oom_events=0, footing=None, made=(), starved_gpus=()))


def climbs_s(worker: WorkerMemory, life: Life) -> float | None:
    """Return when a healthy worker is to go one rung back up; None where it is not."""
    after_s = life.plan.climb_after_s
    if after_s is None or life.ready_s is None or worker.rung == 0:
        return None
    return life.ready_s + after_s


def climb(worker: WorkerMemory, life: Life, now_s: float) -> Pending | None:
    """Return the restart that brings a worker one rung back up, once it is time."""
    at_s = climbs_s(worker, life)
    if at_s is None or now_s < at_s or life.ready_s is None:
        return None
    healthy = format_span(round(now_s - life.ready_s, 1))
    changed = _changes(worker, life.plan, (worker.rung, rung_above(worker, life.plan)))
    return Pending(
        Cause.LADDER, f"ready for {healthy} on rung {worker.rung}, next with {changed or 'what is written'}"
    )


def rung_above(worker: WorkerMemory, plan: WorkerPlan) -> int:
    """Return the next rung up that differs from the worker's; 0 is before the ladder."""
    rungs = range(worker.rung - 1, 0, -1)
    return next((one for one in rungs if _changes(worker, plan, (worker.rung, one)) != ""), 0)
