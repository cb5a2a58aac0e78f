"""What a llama.cpp server needs: asked before each start, and what is `auto` chosen by what is free then."""

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from supervisor.decide.ladder import on_cpu, plan_on
from supervisor.decide.ledger import Room, gpu_room, host_room, pinned
from supervisor.decide.needs import key_of, reckoned_fit
from supervisor.decide.scratch import Scratch
from supervisor.model.action import Notice, Reckon
from supervisor.model.fit import GPU_RESERVE_BYTES, Fit, Reckoning, is_auto, is_llama_server
from supervisor.model.memory import Life, WorkerMemory
from supervisor.model.news import Reckoned
from supervisor.model.plan import Setting, WorkerPlan
from supervisor.model.quantity import format_size

# Beyond the time within which an answer is promised: one that never comes keeps no start back.
ANSWER_S: Final = 5.0
UNDER_WAY: Final = "its model to be reckoned"
# A server that ran out of memory took more than was reckoned, or others did: the next choice takes less.
_LESS: Final = 0.8
_SHARES: Final = 16  # GPUs share the layers in sixteenths, so that small changes ask for nothing anew


class _Place(Struct, frozen=True):
    """The GPUs that a worker may get, and their shares of its layers; no UUIDs where any may come."""

    gpus: tuple[str, ...]
    shares: tuple[int, ...]


def reckon(scratch: Scratch, worker: WorkerMemory, plan: WorkerPlan) -> WorkerMemory:
    """Ask what a llama.cpp server needs: once before each start, and anew where something has changed."""
    if worker.retry_s > scratch.now_s or not is_llama_server(plan.preset, plan.command):
        return worker
    started = plan_on(worker, plan)
    auto = _is_chosen(started.settings)
    place = _place(scratch, worker, plan, auto=auto)
    if place is None:
        return worker
    past = worker.reckoning
    asked = Reckoning(key_of(started), scratch.now_s, worker.lives, place.gpus, place.shares)
    if past is not None:
        enough = past.answered or not auto or is_under_way(scratch, worker)
        if enough and asked == _question(past, asked.asked_s):
            return worker
        asked = replace(asked, missing=past.missing)  # as it was told
    why = "it is to start"
    scratch.do(Reckon(worker.name, asked.asked_s, started, started.settings, place.shares, why))
    return scratch.put(replace(worker, reckoning=asked, due_s=scratch.now_s + ANSWER_S))


def _question(past: Reckoning, asked_s: float) -> Reckoning:
    return Reckoning(past.key, asked_s, past.lives, past.gpus, past.shares)


def hear_reckoned(scratch: Scratch, news: Reckoned) -> str | None:
    """Take the answer, unless something else was asked since; return the worker that it is about."""
    worker = scratch.workers.get(news.worker)
    past = None if worker is None else worker.reckoning
    if worker is None or past is None or past.answered or past.asked_s != news.asked_s:
        return None
    if news.missing is not None and news.missing != past.missing:
        scratch.tell(Notice("info", "model not reckoned", news.missing, worker=worker.name))
    answered = replace(past, answered=True, fits=news.fits, missing=news.missing, rungs=news.rungs)
    scratch.put(replace(worker, reckoning=answered))
    return worker.name


def is_under_way(scratch: Scratch, worker: WorkerMemory) -> bool:
    """Say whether an answer is waited for."""
    past = worker.reckoning
    return past is not None and not past.answered and scratch.now_s < past.asked_s + ANSWER_S


def choose_fit(
    scratch: Scratch, worker: WorkerMemory, plan: WorkerPlan, gpus: tuple[str, ...] | None
) -> Fit | str | None:
    """Return what a llama.cpp server is started with, or in words what it waits for.

    None is any other worker, and one that could not be reckoned. Where something is `auto`, it is the first
    of the choices that fits what is free and not promised, and leaves `GPU_RESERVE_BYTES` on each GPU; what
    cannot be read chooses nothing.
    """
    if not is_llama_server(plan.preset, plan.command):
        return None
    started = plan_on(worker, plan)
    if not _is_chosen(started.settings):
        return reckoned_fit(worker, plan)
    past = worker.reckoning
    if _place(scratch, worker, plan, auto=True) is None:
        return "GPUs to be read"
    if past is None or past.key != key_of(started) or not past.fits:
        return UNDER_WAY
    rooms = [_room(scratch, worker, uuid) for uuid in (past.gpus if gpus is None else gpus)]
    unread = next((room for room in rooms if not isinstance(room.left_bytes, int)), None)
    if unread is not None:
        return f"room for {_names(started)} to be chosen: {unread.in_words()}"
    fitting = [fit for fit in past.fits if next(_short(scratch, worker, fit, rooms), None) is None]
    if not fitting:
        least = next(_short(scratch, worker, past.fits[-1], rooms))
        return f"{least}, at the least that can be chosen for {_names(started)}"
    return next((fit for fit in fitting if _is_less(fit, worker)), fitting[-1])


def starved(worker: WorkerMemory, life: Life, *, device: bool) -> Fit | None:
    """Return what was chosen for a life that ran out of memory, of that memory."""
    fit = life.fit
    if fit is None or not fit.settings:
        return worker.starved
    return Fit(vram_bytes=fit.vram_bytes) if device else Fit(memory_bytes=_in_ram(fit))


def _is_less(fit: Fit, worker: WorkerMemory) -> bool:
    """Say whether a fit takes clearly less of the memory that the last life ran out of."""
    past = worker.starved
    if past is None or not worker.oom_events:
        return True
    if past.vram_bytes:
        return sum(fit.vram_bytes) <= sum(past.vram_bytes) * _LESS
    had, has = past.memory_bytes, _in_ram(fit)
    return had is None or has is None or has <= had * _LESS


def _in_ram(fit: Fit) -> int | None:
    return None if fit.memory_bytes is None else fit.memory_bytes + fit.mapped_bytes


def _is_chosen(settings: Mapping[str, Setting]) -> bool:
    return any(is_auto(name, value) for name, value in settings.items())


def _names(plan: WorkerPlan) -> str:
    return " and ".join(name for name, value in plan.settings.items() if is_auto(name, value))


def _place(scratch: Scratch, worker: WorkerMemory, plan: WorkerPlan, *, auto: bool) -> _Place | None:
    """Return where a worker would be; None where that cannot be said yet.

    Where no GPU is known, written layers are reckoned as on one: there are others than NVIDIA's.
    """
    choice, seen = plan.gpus, scratch.snapshot
    if choice.kind == "none" or on_cpu(worker, plan):
        return _Place((), ())
    if choice.kind == "auto":
        return _Place((), (1,) * choice.count)
    if choice.kind == "any" and not seen.gpus:
        if auto and seen.gpu_missing is None:
            return None
        return _Place((), () if auto else (1,))
    gpus = tuple(one.uuid for one in seen.gpus) if choice.kind == "any" else pinned(scratch, plan)
    if choice.kind == "listed" and len(gpus) < len(choice.listed):
        return None
    return _Place(gpus, _shares([_room(scratch, worker, uuid) for uuid in gpus]))


def _shares(rooms: list[Room]) -> tuple[int, ...]:
    """Return the parts that llama.cpp gives GPUs of the layers: by what each has free, even where unknown."""
    lefts = [max(0, left) for room in rooms if isinstance(left := room.left_bytes, int)]
    if len(rooms) == 1 or len(lefts) < len(rooms) or not sum(lefts):
        return (1,) * len(rooms)
    return tuple(max(1, round(_SHARES * left / sum(lefts))) for left in lefts)


def _room(scratch: Scratch, worker: WorkerMemory, uuid: str) -> Room:
    sample = scratch.samples[uuid]
    return host_room(scratch, worker) if sample.unified else gpu_room(scratch, sample, worker)


def _short(scratch: Scratch, worker: WorkerMemory, fit: Fit, rooms: list[Room]) -> Iterator[str]:
    """Yield what a fit lacks, in words."""
    for wanted, room in zip(fit.vram_bytes, rooms, strict=False):
        with_spare = wanted + GPU_RESERVE_BYTES
        if room.lacks(with_spare):
            yield f"{format_size(with_spare)} on a GPU: {room.in_words()}"
    in_ram, room = _in_ram(fit), host_room(scratch, worker)
    in_all = None if in_ram is None else in_ram + fit.promised_cache_bytes
    if in_all is not None and room.lacks(in_all):
        yield f"{format_size(in_all)} of host memory: {room.in_words()} above critical_available"
