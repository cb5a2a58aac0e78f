"""A state of everything in which no reading is missing, and one in which every one is."""

from typing import Final

import msgspec

from supervisor.model.alert import AlertStatus
from supervisor.model.report import AdviceReport, BatchesReport, MemoryReport, Progress
from supervisor.model.status import HostStatus, ReportedStatus, SelfStatus, Status, XidStatus
from support.control_desk import everything, worker

REPORTED: Final = ReportedStatus(
    level="normal",
    memory=MemoryReport(recoveries=3),
    advice=AdviceReport(batch_size=4),
    progress=Progress(job="nightly", batch_size=8, done=120, total=400, throughput=12.5, eta_s=22.4),
    batches=BatchesReport(throughput=11.0),
    draining=False,
    drained=False,
    report_age_s=0.4,
)
CHAT: Final = worker(
    "chat",
    memory_file_bytes=1 << 30,
    rung=1,
    oom_events=2,
    forecast_s=5400.0,
    restarts=3,
    restarts_by_cause={"vram-oom": 2, "age": 1},
    reported=REPORTED,
)
ITSELF: Final = SelfStatus(
    pid=4711,
    started_wall_s=1_795_228_000.5,
    turns=10,
    turns_s=0.0425,
    turn_bounds_s=(0.0005, 0.005, 1.0),
    turn_counts=(4, 5, 0, 1),
    readings_missing=6,
    adopted=2,
    quarantines=1,
    history_dropped=0,
)
ALERTS: Final = (
    AlertStatus("GPUMemoryExhaustion", "critical", "firing", "GPU 0 is full", gpu="GPU-1"),
    AlertStatus("WorkerHeld", "warning", "firing", "chat is held", worker="chat"),
    AlertStatus("HostMemoryLow", "warning", "firing", "little is left"),
    AlertStatus("GPUHot", "warning", "pending", "GPU 0 is hot", gpu="GPU-1"),
    AlertStatus("WorkerRestartLoop", "warning", "resolved", "chat", worker="chat"),
)


def full() -> Status:
    """Return a state in which everything is known."""
    status = everything(CHAT, worker("embed", "held", held="5 failures", restarts_by_cause={"crash": 5}))
    gpu = msgspec.structs.replace(
        status.gpus[0],
        throttle=("sw-thermal",),
        xids=3,
        last_xid=XidStatus(79, "GPU has fallen off the bus", "2026-11-21T02:36:08.000Z"),
    )
    return msgspec.structs.replace(status, gpus=(gpu,), supervisor=ITSELF)


def unread() -> Status:
    """Return a state in which nothing could be read."""
    status = full()
    gpu = msgspec.structs.replace(
        status.gpus[0],
        memory_total_bytes=None,
        memory_used_bytes=None,
        temperature_c=None,
        power_w=None,
        power_limit_w=None,
        utilization_percent=None,
        state="lost",
        throttle=None,
        xids=None,
        last_xid=None,
    )
    chat = worker("chat", memory_bytes=None, memory_file_bytes=None, vram_bytes=None, memory_cap_bytes=None)
    chat = msgspec.structs.replace(chat, vram_cap_bytes=None, age_s=None, max_age_s=None)
    host = HostStatus(None, None, None, "normal", None)
    return msgspec.structs.replace(status, host=host, gpus=(gpu,), workers=(chat,), supervisor=None)
