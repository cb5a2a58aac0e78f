"""How alerts are written for those who receive them; pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import Struct

from supervisor.model.alert import AlertStatus
from supervisor.model.plan import WebhookNotify

# An Alertmanager takes an alert for resolved at `endsAt` unless it is sent again before. Prometheus sends
# again each minute and sets it to four times that (rules/manager.go), so that three losses do no harm.
SENT_AGAIN_S: Final = 60.0
ENDS_AFTER_S: Final = 4 * SENT_AGAIN_S
SLACK_LINES: Final = 20
_SLACK_SIGNS: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


class Origin(Struct, frozen=True):
    """Where alerts come from: the name of the machine, and the address of its dashboard."""

    host: str
    url: str


def webhook_body(
    webhook: WebhookNotify, alerts: Sequence[AlertStatus], origin: Origin, wall_s: float
) -> bytes:
    """Return the document that is posted for some alerts; `wall_s` is the Unix time of now."""
    if webhook.format == "alertmanager":
        return msgspec.json.encode([_for_alertmanager(alert, origin, wall_s) for alert in alerts])
    if webhook.format == "slack":
        return msgspec.json.encode({"text": slack_text(alerts, origin)})
    return msgspec.json.encode(
        {"version": 1, "host": origin.host, "alerts": [plain(alert, origin) for alert in alerts]}
    )


def _for_alertmanager(alert: AlertStatus, origin: Origin, wall_s: float) -> Mapping[str, object]:
    """Return one alert of an Alertmanager's API v2; its labels are what tells it from others."""
    labels = {
        "alertname": alert.name,
        "severity": alert.severity,
        "job": "gpu-supervisor",
        "instance": origin.host,
        "worker": alert.worker,
        "gpu": alert.gpu,
    }
    annotations = {"summary": alert.summary, "runbook_url": alert.runbook, "value": _value(alert)}
    ends_s = alert.resolved_wall_s if alert.resolved_wall_s is not None else wall_s + ENDS_AFTER_S
    return {
        "labels": {name: text for name, text in labels.items() if text},
        "annotations": {name: text for name, text in annotations.items() if text},
        "startsAt": utc(alert.since_wall_s),
        "endsAt": utc(ends_s),
        "generatorURL": origin.url,
    }


def plain(alert: AlertStatus, origin: Origin) -> Mapping[str, object]:
    """Return one alert as commands and plain webhooks get it."""
    return {
        "host": origin.host,
        **msgspec.to_builtins(alert),
        "since": utc(alert.since_wall_s),
        "resolved": None if alert.resolved_wall_s is None else utc(alert.resolved_wall_s),
    }


def variables(alert: AlertStatus, origin: Origin) -> Mapping[str, str]:
    """Return one alert as variables of the environment; what it has not is left out."""
    told = {
        "HOST": origin.host,
        "NAME": alert.name,
        "STATE": alert.state,
        "SEVERITY": alert.severity,
        "SUMMARY": alert.summary,
        "WORKER": alert.worker,
        "GPU": alert.gpu,
        "VALUE": None if alert.value is None else f"{alert.value:.15g}",
        "THRESHOLD": None if alert.threshold is None else f"{alert.threshold:.15g}",
        "UNIT": alert.unit,
        "SINCE": utc(alert.since_wall_s),
        "RUNBOOK": alert.runbook,
    }
    return {f"GPU_SUPERVISOR_ALERT_{name}": text for name, text in told.items() if text is not None}


def slack_text(alerts: Sequence[AlertStatus], origin: Origin) -> str:
    """Return a message as Slack's incoming webhooks take it, one line for each alert."""
    lines = [_slack_line(alert, origin) for alert in alerts[:SLACK_LINES]]
    more = len(alerts) - len(lines)
    return "\n".join([*lines, *([f"and {more} more"] if more else [])])


def _slack_line(alert: AlertStatus, origin: Origin) -> str:
    mark = ":white_check_mark:" if alert.state == "resolved" else ":rotating_light:"
    said = f"{alert.name} ({alert.severity}) {alert.state} on {origin.host}: {alert.summary}"
    runbook = f" | runbook: {alert.runbook}" if alert.runbook and alert.state != "resolved" else ""
    return f"{mark} {_escaped(said + runbook)}"


def _escaped(text: str) -> str:
    return "".join(_SLACK_SIGNS.get(sign, sign) for sign in text)


def _value(alert: AlertStatus) -> str | None:
    return None if alert.value is None else f"{alert.value:.15g} {alert.unit}"


def utc(wall_s: float) -> str:
    """Write a Unix time as RFC 3339, in UTC."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
