"""What an earlier daemon remembered, made fit for this one."""

from collections.abc import Mapping

from msgspec.structs import replace

from supervisor.model.memory import AlertsMemory, HostMemory, Life, Memory, WorkerMemory
from supervisor.model.phase import Cause, Phase


def resume(memory: Memory, now_s: float) -> Memory:
    """Return the memory of a daemon that ended within this boot, for the first turn of the next.

    Answers to its probes went with it, so they are asked again. Readings are taken anew: a
    breach has to be seen by one daemon. Whoever was stopped because it ended is wanted again.
    """
    workers = {name: _resume(worker, now_s) for name, worker in memory.workers.items()}
    alerts = replace(memory.alerts, judged_s=0.0)
    return Memory(memory.instance, workers, _host(workers, now_s), memory.gpus, alerts=alerts)


def _host(workers: Mapping[str, WorkerMemory], now_s: float) -> HostMemory:
    """Wait on for the memory of a victim that is going: a new daemon does not choose one beside it."""
    for name, worker in workers.items():
        if worker.stop is not None and worker.stop.cause is Cause.HOST_MEMORY:
            return HostMemory(victim=name, victim_s=now_s)
    return HostMemory()


def _resume(worker: WorkerMemory, now_s: float) -> WorkerMemory:
    life, asked = worker.life, worker.reckoning
    if asked is not None and not asked.answered:
        worker = replace(worker, reckoning=None)
    if life is None:
        return replace(worker, due_s=0.0)
    probed = life.probe_sent_s is not None and worker.phase in {Phase.STARTING, Phase.READY, Phase.DRAINING}
    fresh = Life(
        run=life.run,
        plan=life.plan,
        launched_s=life.launched_s,
        launched_wall_s=life.launched_wall_s,
        settings=life.settings,
        fit=life.fit,
        rung=life.rung,
        gpus=life.gpus,
        identity=life.identity,
        ready_s=life.ready_s,
        max_age_s=life.max_age_s,
        start_by_s=life.start_by_s,
        was_below_cap=life.was_below_cap,
        leak_told=life.leak_told,
        seen_gpus=life.seen_gpus,
        heartbeat_s=now_s if life.plan.heartbeat_s is not None else None,  # nobody was there to hear it
        probe_due_s=now_s if probed else life.probe_due_s,
        residual_bytes=life.residual_bytes,
        footprint=life.footprint,
        told=life.told,
        xid=life.xid,
        oom_kill=life.oom_kill,
    )
    begun = worker.stop
    if worker.phase is Phase.STOPPING and begun is not None:
        begun = replace(begun, again_s=now_s)  # whether the stop signal was sent, nobody knows any more
    return replace(worker, life=fresh, stop=begun, due_s=0.0)


def after_reboot(memory: Memory) -> Memory:
    """Return what outlives the machine's restart: who is held, who is not wanted, and on which rung."""
    workers = {name: lasting(worker) for name, worker in memory.workers.items()}
    return Memory(memory.instance, workers, alerts=lasting_alerts(memory.alerts))


def lasting(worker: WorkerMemory) -> WorkerMemory:
    """Return what of one worker outlives the machine's restart."""
    return WorkerMemory(
        worker.name,
        phase=_phase_after_reboot(worker),
        wanted=worker.wanted,
        restarts=worker.restarts,
        restarts_by=worker.restarts_by,
        last=worker.last,
        held=worker.held,
        done=worker.done,
        oom_events=worker.oom_events,
        rung=worker.rung,
        footing=worker.footing,
        made=worker.made,
        starved_gpus=worker.starved_gpus,
        starved=worker.starved,
        lives=worker.lives,
        learned=worker.learned,
    )


def lasting_alerts(alerts: AlertsMemory) -> AlertsMemory:
    """Return what of the alerts outlives the machine's restart: what fires is not told as new."""
    firing = {
        key: replace(one, since_s=0.0, told_s=0.0)
        for key, one in alerts.active.items()
        if one.told_s is not None
    }
    return AlertsMemory(alerts.rules, firing, alerts.resolved, alerts.begun)


def _phase_after_reboot(worker: WorkerMemory) -> Phase:
    if worker.phase is Phase.HELD:
        return Phase.HELD
    return Phase.WAITING if worker.wanted else Phase.STOPPED
