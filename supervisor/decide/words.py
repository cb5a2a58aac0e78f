"""What workers that use the guard are told: pressure, advice, and that they are to finish."""

from typing import Final, Literal

from msgspec.structs import replace

from supervisor.decide.pressure import ORDER
from supervisor.decide.scratch import Scratch
from supervisor.model.action import Advise
from supervisor.model.memory import GpuMemory, Life, WorkerMemory
from supervisor.model.phase import Phase, Pressure
from supervisor.model.report import DrainWords, Words

LISTENING: Final = frozenset({Phase.STARTING, Phase.READY, Phase.DRAINING, Phase.STOPPING})


def advise(scratch: Scratch) -> None:
    """Tell every worker that has reported what it does not know yet."""
    past = scratch.memory
    general = scratch.host.pressure is not past.host.pressure or scratch.gpus != past.gpus
    for name in list(scratch.workers):
        worker = scratch.workers[name]
        before = past.workers.get(name)
        # By value where it is another object: a turn that is replayed from a recording comes to the same.
        if general or (worker is not before and worker != before):
            _advise(scratch, worker)


def _advise(scratch: Scratch, worker: WorkerMemory) -> None:
    life = worker.life
    if life is None or life.report is None or worker.phase not in LISTENING:
        return
    words = _words(scratch, worker, life)
    if words == life.words:
        return
    scratch.put(replace(worker, life=replace(life, words=words)))
    scratch.do(Advise(worker.name, life.run, words, _reason(words)))


def _words(scratch: Scratch, worker: WorkerMemory, life: Life) -> Words:
    own = life.gpus or life.seen_gpus
    gpus = [scratch.gpus[uuid] for uuid in own if uuid in scratch.gpus]
    return Words(
        host=scratch.host.pressure,
        gpu=_worst([level for uuid in own if (level := _level(scratch, uuid)) is not None]),
        advice=_advice(gpus),
        drain=_drain(worker),
    )


def _level(scratch: Scratch, uuid: str) -> Pressure | None:
    past = scratch.gpus.get(uuid)
    return past.pressure if past is not None and past.known else None


def _worst(levels: list[Pressure]) -> Pressure | None:
    return max(levels, key=ORDER.index, default=None)


def _advice(gpus: list[GpuMemory]) -> tuple[Literal["cool-down", "ease-off"], ...]:
    found: list[Literal["cool-down", "ease-off"]] = []
    if any(gpu.hot for gpu in gpus):
        found.append("cool-down")
    if any(gpu.near_power_s is not None for gpu in gpus):
        found.append("ease-off")
    return tuple(found)


def _drain(worker: WorkerMemory) -> DrainWords | None:
    """Return what a worker on its way out is told: it has until the stop signal, or until SIGKILL."""
    begun = worker.stop
    if begun is None:
        return None
    within_s: float | None = None
    if worker.phase is Phase.DRAINING and begun.drain_by_s is not None:
        within_s = begun.drain_by_s - begun.began_s
    elif begun.kill_s is not None and begun.signalled_s is not None:
        within_s = begun.kill_s - begun.signalled_s
    return DrainWords(begun.reason, None if within_s is None else round(within_s, 3))


def _reason(words: Words) -> str:
    if words.drain is not None:
        return f"it is to finish: {words.drain.reason}"
    gpu = "" if words.gpu is None else f", its GPU {words.gpu}"
    advice = f"; {', '.join(words.advice)}" if words.advice else ""
    return f"the host is {words.host}{gpu}{advice}"
