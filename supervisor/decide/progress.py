"""Whether a busy llama.cpp server moves: alive means making progress.

Its counters alone do not tell. Those of a prompt move by a whole batch (2048 tokens unless told
otherwise), which takes a slow machine minutes, and older servers answer nothing meanwhile. So a server
whose counters stand still is looked at from outside: who computes, on the GPU or on the CPU, works.
"""

import math
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from supervisor.decide.scratch import Scratch
from supervisor.decide.stopping import Order, stop
from supervisor.model.action import Notice
from supervisor.model.memory import After, Life, Standstill, WorkerMemory
from supervisor.model.phase import Cause
from supervisor.model.plan import HealthRule, LlamaTarget
from supervisor.model.quantity import format_span
from supervisor.model.reading import Missing
from supervisor.model.serving import Serving
from supervisor.model.snapshot import GpuSample, Sighting

# An idle queue answers within milliseconds; one that is behind a batch may take longer, and is asked again.
LLAMA_ANSWER_S: Final = 5.0
# NVML counts the share of the last second in which a kernel ran: a hung server's is 0.
GPU_WORKS_PERCENT: Final = 5.0
# A prompt batch holds at least one core; the threads of a server that stands still hold none.
CPU_WORKS_CORES: Final = 0.05
# With memory on a GPU, one core may only be waiting for the driver, which spins; two compute.
CPU_WORKS_BESIDE_GPU_CORES: Final = 1.5


def answer_s(rule: HealthRule) -> float:
    """Return how long one health probe waits for its answer."""
    return min(rule.timeout_s, LLAMA_ANSWER_S) if isinstance(rule.target, LlamaTarget) else rule.timeout_s


class Surroundings(Struct, frozen=True):
    """What is seen of a worker from outside, and the GPUs that it may compute on."""

    now_s: float
    seen: Sighting | None
    gpus: tuple[GpuSample, ...] | Missing


class Verdict(Struct, frozen=True):
    """What to remember, why the worker is hung, and why its progress cannot be judged."""

    still: Standstill | None = None
    hung: str | None = None
    unjudged: str | None = None


def watch_progress(scratch: Scratch, worker: WorkerMemory, serving: Serving) -> WorkerMemory:
    """Weigh one look at a server; one that is hung is stopped without draining, which it could not do."""
    life = worker.life
    if life is None or life.plan.health is None:
        return worker
    around = Surroundings(scratch.now_s, scratch.sighting(worker), _gpus(scratch, life))
    verdict = judge_progress(life, serving, around)
    told = verdict.unjudged is None or verdict.unjudged == life.unjudged
    life = replace(life, still=verdict.still, unjudged=verdict.unjudged or life.unjudged)
    worker = scratch.put(replace(worker, life=life))
    if not told:
        scratch.tell(Notice("warning", "progress not judged", verdict.unjudged or "", worker=worker.name))
    if verdict.hung is None:
        return worker
    order = Order(Cause.HUNG, verdict.hung, After.RESTART, drain=False, counts=True)
    return stop(scratch, worker, order)


def judge_progress(life: Life, serving: Serving, around: Surroundings) -> Verdict:
    """Say whether a server moves, stands still for too long, or cannot be judged: Missing never kills."""
    past, now_s = life.still, around.now_s
    if serving.state == "asleep" or serving.busy == 0:
        return Verdict()
    if isinstance(serving.busy, Missing) and serving.state == "up":
        return Verdict(past, unjudged=f"only whether it answers is judged: {serving.busy.why}")
    progress = None if isinstance(serving.progress, Missing) else serving.progress
    if past is None or (progress is not None and progress != past.progress):
        return Verdict(_anew(now_s, replace(past or Standstill(now_s), progress=progress), around.seen))
    works = _works(life, past, around)
    if works is None:
        unread = isinstance(past.cpu_s, Missing)
        return Verdict(_anew(now_s, past, around.seen) if unread else past)
    if isinstance(works, Missing):
        return Verdict(
            past, unjudged=f"busy without progress, and whether it computes is unknown: {works.why}"
        )
    if works:
        return Verdict(_anew(now_s, past, around.seen))
    still_s, limit_s = now_s - past.since_s, _limit_s(life)
    if still_s < limit_s:
        return Verdict(_anew(past.since_s, past, around.seen))
    return Verdict(past, hung=_words(serving, still_s))


def _limit_s(life: Life) -> float:
    return life.plan.health.timeout_s if life.plan.health is not None else float("inf")


def _words(serving: Serving, still_s: float) -> str:
    doing = f"busy with {serving.busy} requests" if isinstance(serving.busy, int) else serving.busy.why
    return f"{doing}; no token read or written, and nothing computed, for {format_span(round(still_s, 1))}"


def _anew(since_s: float, still: Standstill, seen: Sighting | None) -> Standstill:
    """Return `still` as of now, with the newest reading of the CPU."""
    if seen is None or seen.read_s <= still.cpu_read_s:
        return replace(still, since_s=since_s)
    return replace(still, since_s=since_s, cpu_s=seen.cpu_s, cpu_read_s=seen.read_s)


def _works(life: Life, past: Standstill, around: Surroundings) -> bool | Missing | None:
    """Say whether it computes; None where nothing was read since the last look."""
    cores = _cores(past, around.seen)
    if life.plan.gpus.kind == "none":
        return cores if cores is None or isinstance(cores, Missing) else cores >= CPU_WORKS_CORES
    gpus = around.gpus if isinstance(around.gpus, Missing) else _gpus_work(around.gpus, past)
    if gpus is True:
        return True
    least = CPU_WORKS_BESIDE_GPU_CORES if life.seen_gpus else CPU_WORKS_CORES
    if isinstance(cores, float) and cores >= least:
        return True
    if isinstance(gpus, Missing):
        return gpus
    return cores if isinstance(cores, Missing) else None if gpus is None or cores is None else False


def _cores(past: Standstill, seen: Sighting | None) -> float | Missing | None:
    """Return the cores that it used since the last reading."""
    if seen is None:
        return None
    if isinstance(seen.cpu_s, Missing):
        return seen.cpu_s
    if seen.read_s <= past.cpu_read_s or isinstance(past.cpu_s, Missing):
        return None
    used_s = seen.cpu_s - past.cpu_s
    if used_s < 0:
        return math.inf  # one of its processes has ended, which is movement
    return used_s / (seen.read_s - past.cpu_read_s)


def _gpus_work(gpus: tuple[GpuSample, ...], past: Standstill) -> bool | Missing | None:
    """Say whether a kernel runs on one of them, whoever's it is; NVML does not tell whose."""
    used = [gpu.utilization_percent for gpu in gpus if gpu.read_s > past.since_s]
    if any(not isinstance(share, Missing) and share > GPU_WORKS_PERCENT for share in used):
        return True
    missing = next((share for share in used if isinstance(share, Missing)), None)
    return missing if missing is not None else None if len(used) < len(gpus) else False


def _gpus(scratch: Scratch, life: Life) -> tuple[GpuSample, ...] | Missing:
    """Return the GPUs that the worker holds memory on; where none is seen, those that it may use."""
    wanted = life.seen_gpus or life.gpus or tuple(scratch.samples)
    if not wanted:
        why = scratch.snapshot.gpu_missing or "no GPU is known"
        return Missing(f"{why} (gpus: none says that it computes on the CPU)")
    lost = next((uuid for uuid in wanted if uuid not in scratch.samples), None)
    return Missing(f"GPU {lost} is not there") if lost else tuple(scratch.samples[uuid] for uuid in wanted)
