"""`alerts`, before a desk with some."""

import json
from pathlib import Path

from supervisor.model.alert import AlertStatus
from support.command_line import gpu_supervisor
from support.control_desk import StoryDesk

FIRING = AlertStatus(
    "GPUHot",
    "warning",
    "firing",
    "GPU 0: gpu.hot yes (gpu.hot)",
    gpu="GPU-1",
    since_wall_s=1_763_692_628.0,
    runbook="docs/runbooks/gpu-hot.md",
)
RESOLVED = AlertStatus(
    "HighMemoryUsage",
    "critical",
    "resolved",
    "worker chat: worker.memory 50% \x1b[31m(worker.memory > 90%)",
    worker="chat",
    value=50.0,
    threshold=90.0,
    unit="percent",
    since_wall_s=1_763_692_628.0,
    resolved_wall_s=1_763_692_640.0,
    runbook="x",
)


def test_alerts_are_listed_with_what_was_read_and_the_runbook(control: Path, desk: StoryDesk) -> None:
    desk.alerting = (FIRING, RESOLVED)
    ran = gpu_supervisor("alerts", control=control)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        "firing  GPUHot  warning  since 2025-11-21 02:37:08\n"
        "    GPU 0: gpu.hot yes (gpu.hot)\n"
        "    runbook: docs/runbooks/gpu-hot.md\n"
        "resolved  HighMemoryUsage  critical  since 2025-11-21 02:37:08 to 2025-11-21 02:37:20\n"
        "    worker chat: worker.memory 50%  [31m(worker.memory > 90%)\n"
    )


def test_alerts_are_one_document_with_json(control: Path, desk: StoryDesk) -> None:
    desk.alerting = (RESOLVED,)
    ran = gpu_supervisor("alerts", "--json", control=control)
    (alert,) = json.loads(ran.out)["alerts"]
    assert (alert["name"], alert["state"], alert["value"], alert["unit"]) == (
        "HighMemoryUsage",
        "resolved",
        50.0,
        "percent",
    )


def test_that_there_are_none_is_said(control: Path, desk: StoryDesk) -> None:
    assert desk.alerting == ()
    ran = gpu_supervisor("alerts", control=control)
    assert (ran.code, ran.out) == (0, "no alerts\n")
