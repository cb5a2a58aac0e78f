import json

import msgspec
import pytest
from msgspec import structs

from supervisor.daemon.status import StatusContext, status_of, utc_text
from supervisor.model.memory import (
    After,
    GpuMemory,
    HostMemory,
    LastRestart,
    LastXid,
    Life,
    Memory,
    Stop,
    WorkerMemory,
)
from supervisor.model.phase import Cause, GpuState, Phase, Pressure, Throttle
from supervisor.model.plan import GpuChoice, MemoryCaps, Plan, WorkerPlan
from supervisor.model.reading import Missing
from supervisor.model.snapshot import GpuProcess, GpuSample, HostSample, Identity, Sighting, Snapshot
from supervisor.model.status import WorkerStatus

GIB = 1 << 30
CHAT = WorkerPlan(
    "chat",
    "chat",
    ("server",),
    memory=MemoryCaps(cap_bytes=8 * GIB),
    vram_cap_bytes=6 * GIB,
    max_age_s=3600.0,
)
PLAN = Plan(workers={"chat": CHAT})
CONTEXT = StatusContext(version="1.2", launcher="direct", started_s=88.0, config="/etc/c.yaml")
LIFE = Life(
    run="r1",
    plan=CHAT,
    launched_s=26.0,
    launched_wall_s=0.0,
    settings={"n": 25},
    gpus=("GPU-1",),
    identity=Identity("boot", 17650, 4),
    max_age_s=3600.0,
)
READY = WorkerMemory(
    "chat",
    Phase.READY,
    life=LIFE,
    restarts=2,
    restarts_by={Cause.AGE: 1, Cause.MEMORY_CAP: 1},
    last=LastRestart(Cause.MEMORY_CAP, "8.2 GiB, cap 8 GiB", 1.8e9),
)
HOST = HostSample(
    read_s=100.0,
    memory_total_bytes=64 * GIB,
    memory_available_bytes=40 * GIB,
    memory_free_bytes=20 * GIB,
    swap_total_bytes=8 * GIB,
    swap_free_bytes=7 * GIB,
    psi_full_avg10=0.25,
)
GPU = GpuSample(
    "GPU-1",
    0,
    "H200",
    read_s=99.5,
    memory_total_bytes=80 * GIB,
    memory_used_bytes=5 * GIB,
    temperature_c=40.0,
    power_w=70.0,
    power_limit_w=300.0,
    utilization_percent=3.0,
    processes=(GpuProcess(17650, 5 * GIB),),
    throttle=(Throttle.SW_POWER_CAP,),
)
SEEN = Sighting("r1", 100.0, (17650, 17651), 2 * GIB, 3 * GIB, 100.0, 5 * GIB, {"GPU-1": 5 * GIB})
SNAPSHOT = Snapshot(100.0, 1.8e9, HOST, (GPU,), workers={"chat": SEEN})


def chat(worker: WorkerMemory = READY, snapshot: Snapshot = SNAPSHOT, plan: Plan = PLAN) -> WorkerStatus:
    return status_of(CONTEXT, plan, Memory("i", {"chat": worker}), snapshot).workers[0]


def test_the_document_is_that_of_the_interface() -> None:
    memory = Memory(
        "i",
        {"chat": READY},
        HostMemory(Pressure.HIGH),
        {
            "GPU-1": GpuMemory(
                Pressure.CRITICAL,
                quarantine="it hung",
                xids=2,
                last_xid=LastXid(13, "warp", 1.8e9 - 1.0, 99),
            )
        },
    )
    assert json.loads(msgspec.json.encode(status_of(CONTEXT, PLAN, memory, SNAPSHOT))) == {
        "version": "1.2",
        "launcher": "direct",
        "taken_at": "2027-01-15T08:00:00.000Z",
        "uptime_s": 12.0,
        "host": {
            "memory_total_bytes": 64 * GIB,
            "memory_available_bytes": 40 * GIB,
            "swap_used_bytes": GIB,
            "pressure": "high",
            "psi_full_avg10": 0.25,
            "missing": {},
        },
        "gpus": [
            {
                "index": 0,
                "uuid": "GPU-1",
                "name": "H200",
                "memory_total_bytes": 80 * GIB,
                "memory_used_bytes": 5 * GIB,
                "pressure": "critical",
                "temperature_c": 40.0,
                "power_w": 70.0,
                "power_limit_w": 300.0,
                "utilization_percent": 3.0,
                "state": "ok",
                "unified": False,
                "quarantine": "it hung",
                "read_age_s": 0.5,
                "throttle": ["sw-power-cap"],
                "xids": 2,
                "last_xid": {"code": 13, "text": "warp", "at": "2027-01-15T07:59:59.000Z"},
                "missing": {},
            }
        ],
        "workers": [
            {
                "name": "chat",
                "phase": "ready",
                "pid": 17650,
                "unit": None,
                "age_s": 74.0,
                "max_age_s": 3600.0,
                "restart_in_s": 3526.0,
                "memory_bytes": 2 * GIB,
                "memory_file_bytes": 3 * GIB,
                "memory_cap_bytes": 8 * GIB,
                "vram_bytes": 5 * GIB,
                "vram_cap_bytes": 6 * GIB,
                "vram_enforcement": "poll",
                "gpus": ["GPU-1"],
                "restarts": 2,
                "last_restart": {
                    "cause": "memory-cap",
                    "reason": "8.2 GiB, cap 8 GiB",
                    "at": "2027-01-15T08:00:00.000Z",
                },
                "rung": 0,
                "settings": {"n": 25},
                "oom_events": 0,
                "forecast_s": None,
                "held": None,
                "run": "r1",
                "waits_for": None,
                "done": None,
                "processes": 2,
                "needs_memory_bytes": None,
                "needs_vram_bytes": None,
                "needs_prompt_cache_bytes": None,
                "needs_mapped_bytes": None,
                "reported": None,
                "restarts_by_cause": {"age": 1, "memory-cap": 1},
                "missing": {},
            }
        ],
        "config": "/etc/c.yaml",
        "config_refused": None,
        "gpu_missing": None,
        "dry_run": False,
        "history": "ok",
        "supervisor": None,
    }


def test_what_could_not_be_read_is_null_with_its_reason_beside_it() -> None:
    why = Missing("denied")
    snapshot = Snapshot(
        100.0,
        1.8e9,
        structs.replace(HOST, swap_free_bytes=why, psi_full_avg10=why),
        (structs.replace(GPU, memory_used_bytes=why, state=GpuState.HUNG, fault="no answer for 2 s"),),
        workers={"chat": structs.replace(SEEN, vram_bytes=why)},
    )
    status = status_of(CONTEXT, PLAN, Memory("i", {"chat": READY}), snapshot)
    assert (status.host.swap_used_bytes, status.host.psi_full_avg10) == (None, None)
    assert status.host.missing == {"swap_used_bytes": "denied", "psi_full_avg10": "denied"}
    assert status.gpus[0].memory_used_bytes is None
    assert status.gpus[0].missing == {"memory_used_bytes": "denied", "state": "no answer for 2 s"}
    assert status.gpus[0].state == "hung"
    assert status.workers[0].vram_bytes is None
    assert status.workers[0].missing == {"vram_bytes": "denied"}


def test_the_pid_is_shown_while_its_process_lives_and_not_longer() -> None:
    stop = Stop(Cause.AGE, "x", After.RESTART, 90.0)
    assert chat(structs.replace(READY, phase=Phase.STOPPING, stop=stop)).pid == 17650
    gone = structs.replace(stop, exited_s=95.0)
    assert chat(structs.replace(READY, phase=Phase.KILLING, stop=gone)).pid is None
    assert chat(structs.replace(READY, phase=Phase.RECLAIMING, stop=gone)).pid is None
    assert chat(structs.replace(READY, life=structs.replace(LIFE, identity=None))).pid is None
    orphans = structs.replace(SNAPSHOT, workers={"chat": structs.replace(SEEN, pids=(17651,))})
    assert chat(snapshot=orphans).pid is None
    assert chat(snapshot=orphans).processes == 1


def test_a_worker_without_a_life_shows_nothing_of_an_earlier_one() -> None:
    held = WorkerMemory(
        "chat", Phase.HELD, held="5 starts failed; gpu-supervisor reset chat", rung=2, oom_events=3
    )
    shown = chat(held)
    assert (shown.pid, shown.age_s, shown.restart_in_s, shown.memory_bytes, shown.processes) == (
        None,
        None,
        None,
        None,
        0,
    )
    assert (shown.phase, shown.held, shown.rung) == ("held", "5 starts failed; gpu-supervisor reset chat", 2)
    assert (shown.memory_cap_bytes, shown.max_age_s) == (8 * GIB, 3600.0)
    assert shown.missing == {}


def test_a_sighting_of_another_life_is_not_shown() -> None:
    shown = chat(snapshot=structs.replace(SNAPSHOT, workers={"chat": structs.replace(SEEN, run="r0")}))
    assert shown.memory_bytes is None
    assert shown.missing["memory_bytes"] == "not read yet"


def test_a_worker_that_is_too_old_restarts_in_nothing_and_one_that_stops_in_no_time() -> None:
    old = structs.replace(LIFE, max_age_s=10.0)
    assert chat(structs.replace(READY, life=old)).restart_in_s == 0.0
    assert chat(structs.replace(READY, phase=Phase.STOPPING)).restart_in_s is None
    assert chat(structs.replace(READY, life=structs.replace(LIFE, max_age_s=None))).restart_in_s is None


@pytest.mark.parametrize(
    ("gpus", "kind", "pinned", "enforcement"),
    [
        ((GPU,), "listed", ("GPU-1",), "poll"),
        ((GPU,), "any", (), "poll"),
        ((structs.replace(GPU, processes=Missing("not permitted")),), "listed", ("GPU-1",), "device-only"),
        (
            (GPU, structs.replace(GPU, uuid="GPU-2", processes=Missing("not permitted"))),
            "listed",
            ("GPU-1",),
            "poll",
        ),
        ((GPU, structs.replace(GPU, uuid="GPU-2", processes=Missing("x"))), "any", (), "device-only"),
        ((GPU,), "none", (), "none"),
        ((), "any", (), "none"),
    ],
)
def test_how_a_vram_cap_is_held_is_said(
    gpus: tuple[GpuSample, ...], kind: str, pinned: tuple[str, ...], enforcement: str
) -> None:
    plan = structs.replace(CHAT, gpus=msgspec.convert({"kind": kind}, GpuChoice))
    worker = structs.replace(READY, life=structs.replace(LIFE, plan=plan, gpus=pinned))
    assert chat(worker, structs.replace(SNAPSHOT, gpus=gpus)).vram_enforcement == enforcement


def test_without_a_gpu_the_reason_is_given_once_for_all_and_for_each_worker() -> None:
    seen = Sighting("r1", 100.0, (17650,), GIB, 0)
    snapshot = structs.replace(SNAPSHOT, gpus=(), gpu_missing="no NVIDIA driver", workers={"chat": seen})
    status = status_of(CONTEXT, PLAN, Memory("i", {"chat": READY}), snapshot)
    assert status.gpu_missing == "no NVIDIA driver"
    assert status.workers[0].missing == {"vram_bytes": "no NVIDIA driver"}


def test_unified_memory_is_that_of_the_machine() -> None:
    silent = Missing("not supported")
    gpu = structs.replace(GPU, unified=True, memory_total_bytes=silent, memory_used_bytes=silent)
    shown = status_of(CONTEXT, PLAN, Memory("i"), structs.replace(SNAPSHOT, gpus=(gpu,))).gpus[0]
    assert (shown.unified, shown.memory_total_bytes, shown.memory_used_bytes) == (True, 64 * GIB, 24 * GIB)
    assert shown.missing == {}
    host = structs.replace(HOST, memory_available_bytes=Missing("denied"))
    shown = status_of(CONTEXT, PLAN, Memory("i"), structs.replace(SNAPSHOT, gpus=(gpu,), host=host)).gpus[0]
    assert shown.memory_used_bytes is None
    assert shown.missing == {"memory_used_bytes": "denied"}


def test_workers_come_as_planned_then_those_that_are_leaving() -> None:
    plan = Plan(workers={"b": WorkerPlan("b", "b", ()), "a": WorkerPlan("a", "a", ())})
    status = status_of(CONTEXT, plan, Memory("i", {"chat": READY, "a": WorkerMemory("a")}), SNAPSHOT)
    assert [worker.name for worker in status.workers] == ["b", "a", "chat"]
    assert [worker.phase for worker in status.workers] == ["waiting", "waiting", "ready"]


def test_a_unit_is_named_where_systemd_launches() -> None:
    context = structs.replace(CONTEXT, launcher="systemd")
    assert status_of(context, PLAN, Memory("i"), SNAPSHOT).workers[0].unit == "gpu-worker-chat.service"


def test_times_are_utc() -> None:
    assert utc_text(1234567890.5) == "2009-02-13T23:31:30.500Z"


def test_xids_are_unknown_where_the_kernels_log_cannot_be_read() -> None:
    context = structs.replace(CONTEXT, kernel_log_missing=Missing("cannot read /dev/kmsg: denied"))
    memory = Memory("i", gpus={"GPU-1": GpuMemory(xids=3)})
    assert status_of(CONTEXT, PLAN, memory, SNAPSHOT).gpus[0].xids == 3
    gpu = status_of(context, PLAN, memory, SNAPSHOT).gpus[0]
    assert (gpu.xids, gpu.missing["xids"]) == (None, "cannot read /dev/kmsg: denied")
