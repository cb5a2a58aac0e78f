"""How alerts are written: for an Alertmanager, for Slack, plainly, and for commands."""

import json
from typing import Any

from msgspec.structs import replace

from supervisor.act.alert_text import Origin, plain, slack_text, variables, webhook_body
from supervisor.model.alert import AlertStatus
from supervisor.model.plan import WebhookNotify

ORIGIN = Origin("box", "http://127.0.0.1:8095/")
FULL = AlertStatus(
    name="GPUMemoryExhaustion",
    severity="critical",
    state="firing",
    summary="GPU 0: gpu.used 97.2% (gpu.used > 95%)",
    gpu="GPU-1",
    value=97.2,
    threshold=95.0,
    unit="percent",
    since_wall_s=1_800_000_000.0,
    runbook="docs/runbooks/gpu-memory-exhaustion.md",
)
OVER = replace(FULL, state="resolved", resolved_wall_s=1_800_000_060.5)


def body(kind: Any, *alerts: AlertStatus) -> Any:  # noqa: ANN401 - a JSON document
    return json.loads(webhook_body(WebhookNotify("http://x", kind), alerts, ORIGIN, 1_800_000_100.0))


def test_an_alertmanager_gets_labels_that_never_change_and_an_end_four_minutes_ahead() -> None:
    assert body("alertmanager", FULL) == [
        {
            "labels": {
                "alertname": "GPUMemoryExhaustion",
                "severity": "critical",
                "job": "gpu-supervisor",
                "instance": "box",
                "gpu": "GPU-1",
            },
            "annotations": {
                "summary": "GPU 0: gpu.used 97.2% (gpu.used > 95%)",
                "runbook_url": "docs/runbooks/gpu-memory-exhaustion.md",
                "value": "97.2 percent",
            },
            "startsAt": "2027-01-15T08:00:00.000Z",
            "endsAt": "2027-01-15T08:05:40.000Z",
            "generatorURL": "http://127.0.0.1:8095/",
        }
    ]


def test_an_alertmanager_is_told_when_it_was_resolved() -> None:
    (one,) = body("alertmanager", OVER)
    assert one["endsAt"] == "2027-01-15T08:01:00.500Z"
    assert one["labels"] == body("alertmanager", FULL)[0]["labels"]


def test_the_plain_format_has_every_field() -> None:
    document = body("json", FULL, OVER)
    assert (document["version"], document["host"]) == (1, "box")
    assert document["alerts"][1] == {
        "host": "box",
        "name": "GPUMemoryExhaustion",
        "severity": "critical",
        "state": "resolved",
        "summary": "GPU 0: gpu.used 97.2% (gpu.used > 95%)",
        "worker": None,
        "gpu": "GPU-1",
        "value": 97.2,
        "threshold": 95.0,
        "unit": "percent",
        "since_wall_s": 1_800_000_000.0,
        "resolved_wall_s": 1_800_000_060.5,
        "runbook": "docs/runbooks/gpu-memory-exhaustion.md",
        "since": "2027-01-15T08:00:00.000Z",
        "resolved": "2027-01-15T08:01:00.500Z",
    }
    assert plain(FULL, ORIGIN)["resolved"] is None


def test_slack_gets_one_line_for_each_with_its_signs_escaped() -> None:
    said = "GPU 0: gpu.used 97.2% (gpu.used &gt; 95%)"
    assert body("slack", FULL, OVER)["text"].splitlines() == [
        f":rotating_light: GPUMemoryExhaustion (critical) firing on box: {said} | runbook: {FULL.runbook}",
        f":white_check_mark: GPUMemoryExhaustion (critical) resolved on box: {said}",
    ]
    many = slack_text([FULL] * 23, ORIGIN).splitlines()
    assert (len(many), many[-1]) == (21, "and 3 more")


def test_a_command_gets_what_there_is_as_variables() -> None:
    assert variables(replace(FULL, runbook=None, value=12.0 * 2**30, unit="bytes"), ORIGIN) == {
        "GPU_SUPERVISOR_ALERT_HOST": "box",
        "GPU_SUPERVISOR_ALERT_NAME": "GPUMemoryExhaustion",
        "GPU_SUPERVISOR_ALERT_STATE": "firing",
        "GPU_SUPERVISOR_ALERT_SEVERITY": "critical",
        "GPU_SUPERVISOR_ALERT_SUMMARY": "GPU 0: gpu.used 97.2% (gpu.used > 95%)",
        "GPU_SUPERVISOR_ALERT_GPU": "GPU-1",
        "GPU_SUPERVISOR_ALERT_VALUE": "12884901888",
        "GPU_SUPERVISOR_ALERT_THRESHOLD": "95",
        "GPU_SUPERVISOR_ALERT_UNIT": "bytes",
        "GPU_SUPERVISOR_ALERT_SINCE": "2027-01-15T08:00:00.000Z",
    }
