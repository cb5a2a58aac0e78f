"""What a running worker is judged by: its caps, its age, its health, its heartbeat."""

from typing import Final

from msgspec.structs import replace

from supervisor.decide import caps, leak
from supervisor.decide.footprint import with_footprint
from supervisor.decide.ladder import climb
from supervisor.decide.progress import answer_s, watch_progress
from supervisor.decide.scratch import Scratch
from supervisor.decide.starting import in_the_way, sibling_down, sibling_held
from supervisor.decide.stopping import Order, stop
from supervisor.model.action import Notice, Probe
from supervisor.model.memory import After, Life, Pending, Window, WorkerMemory
from supervisor.model.news import Probed
from supervisor.model.phase import Cause, Phase
from supervisor.model.plan import BreachRule, HealthRule
from supervisor.model.quantity import format_span
from supervisor.model.reading import Missing, known
from supervisor.model.snapshot import Sighting

# An answer that is this late past its own deadline was lost with the daemon that asked.
LOST_ANSWER_S: Final = 5.0


def take_readings(scratch: Scratch, worker: WorkerMemory, seen: Sighting) -> WorkerMemory:
    """Weigh fresh readings against the caps, and say when the next one is due."""
    life = worker.life
    if life is None:
        return worker
    life = _weigh_memory(life, seen)
    life = with_footprint(_weigh_vram(life, seen), seen)
    if worker.phase is Phase.READY:
        life = leak.watch(life, seen, scratch.plan.poll_interval_s)
    if life.sample_s is not None and worker.phase not in {Phase.STARTING, Phase.READY}:
        life = replace(life, sample_s=None)  # it goes already: no cap is to be met in time
    if life is worker.life:
        return worker
    peak = max(worker.peak_memory_bytes, life.last_memory_bytes or 0)
    return scratch.put(replace(worker, life=life, peak_memory_bytes=peak))


def _weigh_memory(life: Life, seen: Sighting) -> Life:
    cap, rule, now = life.plan.memory.cap_bytes, life.plan.breach, seen.memory_bytes
    past = life.memory
    if seen.read_s <= past.read_s:
        return life
    if isinstance(now, Missing):
        return life if life.sample_s is None else replace(life, sample_s=None)
    gained, growth = 0, 0.0
    if life.last_memory_bytes is not None and past.read_s > 0:
        gained = now - life.last_memory_bytes
        growth = gained / (seen.read_s - past.read_s)
    if cap is None or not caps.warm(life, seen.read_s):
        window = replace(past, read_s=seen.read_s)
    else:
        window = caps.weigh(past, now, seen.read_s, cap, rule)
    sample_s = None
    if cap is not None:
        sample_s = caps.next_sample_s(now, growth, cap, seen.read_s, gained_bytes=gained)
    below = life.was_below_cap or (cap is not None and caps.warm(life, seen.read_s) and now <= cap)
    return replace(
        life,
        memory=window,
        last_memory_bytes=now,
        growth_bytes_s=growth,
        sample_s=sample_s,
        was_below_cap=below,
    )


def _weigh_vram(life: Life, seen: Sighting) -> Life:
    cap = life.plan.vram_cap_bytes
    held = tuple(uuid for uuid, size in seen.vram_by_gpu.items() if size > 0 and uuid not in life.seen_gpus)
    if held:
        life = replace(life, seen_gpus=(*life.seen_gpus, *held))
    if seen.vram_read_s <= life.vram.read_s:
        return life
    if cap is None or not caps.warm(life, seen.vram_read_s):
        return replace(life, vram=replace(life.vram, read_s=seen.vram_read_s))
    window = caps.weigh(life.vram, seen.vram_bytes, seen.vram_read_s, cap, life.plan.breach)
    return life if window is life.vram else replace(life, vram=window)


def judge(scratch: Scratch, worker: WorkerMemory) -> WorkerMemory:
    """Decide whether a running worker has to go, the most pressing reason first."""
    life = worker.life
    if worker.phase not in {Phase.STARTING, Phase.READY} or life is None:
        return worker
    if (order := _cap_order(scratch, worker, life)) is not None:
        return stop(scratch, worker, order)
    if worker.phase is not Phase.READY:
        return worker
    if (order := _heartbeat_order(scratch, life)) is not None:
        return stop(scratch, worker, order)
    worker = leak.tell(scratch, worker)
    life = worker.life or life
    if (pending := _planned(scratch, worker, life)) is not None:
        worker = _when_possible(scratch, worker, life, pending)
    return _probe_health(scratch, worker, life) if worker.phase is Phase.READY else worker


def _cap_order(scratch: Scratch, worker: WorkerMemory, life: Life) -> Order | None:
    rule, memory_cap, vram_cap = life.plan.breach, life.plan.memory.cap_bytes, life.plan.vram_cap_bytes
    seen = scratch.sighting(worker)
    if seen is None:
        return None
    order = None
    # A breach counts while what is seen now is the reading that completed it: one that had to wait for
    # a sibling is not acted on once nobody can see the worker any more.
    memory, vram = seen.memory_bytes, seen.vram_bytes
    if memory_cap is not None and _is_newest(life.memory, memory, seen.read_s, rule):
        reason = caps.breach_reason("memory", life.last_memory_bytes or 0, memory_cap, rule)
        order = Order(Cause.MEMORY_CAP, reason, After.RESTART, counts=True)
    elif vram_cap is not None and _is_newest(life.vram, vram, seen.vram_read_s, rule):
        reason = caps.breach_reason("GPU memory", known(vram) or 0, vram_cap, rule)
        order = Order(Cause.VRAM_CAP, reason, After.RESTART, counts=True)
    # A cap waits for nothing but a sibling: two replicas are never down together by our hand, and the
    # host's own floor stands behind it.
    return None if order is None or sibling_down(scratch, worker, life) is not None else order


def _is_newest(window: Window, reading: int | Missing, read_s: float, rule: BreachRule) -> bool:
    """Say whether the cap is breached, and the newest reading is one that says so."""
    return not isinstance(reading, Missing) and window.read_s == read_s and caps.breached(window, rule)


def _heartbeat_order(scratch: Scratch, life: Life) -> Order | None:
    limit_s = life.plan.heartbeat_s
    if limit_s is None or life.ready_s is None:
        return None
    silent_s = scratch.now_s - max(life.ready_s, life.heartbeat_s or 0.0)
    if silent_s <= limit_s:
        return None
    reason = f"no heartbeat for {format_span(round(silent_s, 1))}, wanted every {format_span(limit_s)}"
    return Order(Cause.HEARTBEAT, reason, After.RESTART, drain=False, counts=True)


def _planned(scratch: Scratch, worker: WorkerMemory, life: Life) -> Pending | None:
    """Return the restart that is due and can wait for a good moment."""
    if worker.pending is not None:
        return worker.pending
    return _age(scratch, life) or leak.due(scratch, life) or climb(worker, life, scratch.now_s)


def _age(scratch: Scratch, life: Life) -> Pending | None:
    age_s = scratch.now_s - life.launched_s
    if life.max_age_s is None or age_s < life.max_age_s:
        return None
    limit = format_span(round(life.max_age_s, 1))
    return Pending(Cause.AGE, f"age {format_span(round(age_s, 1))} has reached {limit}")


def _when_possible(scratch: Scratch, worker: WorkerMemory, life: Life, pending: Pending) -> WorkerMemory:
    why = in_the_way(scratch, worker, life) or sibling_held(scratch, worker, life)
    if why is None:
        order = Order(pending.cause, pending.reason, After.RESTART, drain=pending.drain)
        return stop(scratch, worker, order)
    if worker.waits_for != why:
        scratch.tell(
            Notice(
                "info",
                "restart deferred",
                f"{pending.reason}; waits because {why}",
                worker=worker.name,
                cause=pending.cause,
            )
        )
        worker = scratch.put(replace(worker, waits_for=why))
    return worker


def _probe_health(scratch: Scratch, worker: WorkerMemory, life: Life) -> WorkerMemory:
    rule, now_s = life.plan.health, scratch.now_s
    if rule is None:
        return worker
    lost = life.probe_sent_s is not None and now_s > lost_by_s(rule, life.probe_sent_s)
    if not lost and (life.probe_due_s is None or now_s < life.probe_due_s):
        return worker
    scratch.do(Probe(worker.name, life.run, "health", rule.target, answer_s(rule), "is it healthy?"))
    return scratch.put(replace(worker, life=replace(life, probe_due_s=None, probe_sent_s=now_s)))


def lost_by_s(rule: HealthRule, sent_s: float) -> float:
    """Return the time after which the answer to a health probe no longer comes."""
    return sent_s + answer_s(rule) + LOST_ANSWER_S


def health_answer(scratch: Scratch, worker: WorkerMemory, news: Probed) -> WorkerMemory:
    """Take the answer of a health probe; enough bad ones in a row, or no progress, end the life."""
    good, detail = news.good, news.detail
    life = worker.life
    if worker.phase is not Phase.READY or life is None or life.plan.health is None:
        return worker
    rule = life.plan.health
    failures = 0 if good else life.unhealthy + 1
    due_s = max((life.probe_sent_s or scratch.now_s) + rule.interval_s, scratch.now_s)
    life = replace(life, unhealthy=failures, probe_due_s=due_s, probe_sent_s=None)
    worker = scratch.put(replace(worker, life=life))
    if good:
        return worker if news.serving is None else watch_progress(scratch, worker, news.serving)
    scratch.tell(
        Notice(
            "warning",
            "health probe failed",
            detail,
            worker=worker.name,
            fields={"failures": failures, "of": rule.failures},
        )
    )
    if failures < rule.failures:
        return worker
    reason = f"{failures} health probes in a row failed, the last: {detail}"
    return stop(scratch, worker, Order(Cause.UNHEALTHY, reason, After.RESTART, drain=False, counts=True))
