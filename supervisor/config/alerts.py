"""Turns the alerts of the file into those of the plan."""

import re
from typing import Final

from supervisor.config.fault import Path, Report, quoted
from supervisor.config.shape import AlertNotifyShape, AlertRuleShape, AlertsShape
from supervisor.config.targets import why_not_url
from supervisor.model.plan import AlertRule, AlertsPlan, CommandNotify, WebhookNotify

MOST_RULES: Final = 100
MOST_RECEIVERS: Final = 20
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,79}", re.ASCII)


def alerts_of(shape: AlertsShape, report: Report) -> AlertsPlan:
    """Return the alerts and whom they are told; what is wrong with them goes into the report."""
    path: Path = ("alerts",)
    for key, count, most in (
        ("rules", len(shape.rules), MOST_RULES),
        ("notify", len(shape.notify), MOST_RECEIVERS),
    ):
        if count > most:
            report.fault((*path, key), f"has {count} entries, and {most} is the most")
            return AlertsPlan()
    _check_names(shape, report)
    rules = [_rule(rule, (*path, "rules", index), report) for index, rule in enumerate(shape.rules)]
    told = [_receiver(one, (*path, "notify", index), report) for index, one in enumerate(shape.notify)]
    return AlertsPlan(
        tuple(rule for rule in rules if rule is not None),
        tuple(one for one in told if one is not None),
        shape.repeat,
    )


def _rule(shape: AlertRuleShape, path: Path, report: Report) -> AlertRule | None:
    if not report.bad(*path, "name") and not _NAME.fullmatch(shape.name):
        why = f"{quoted(shape.name)} is no name: write letters, digits and _ . : - such as GPUHot"
        report.fault((*path, "name"), why)
    if report.bad(*path, "when"):
        return None
    from supervisor.config.condition import ConditionError, parse_condition  # noqa: PLC0415 - few have rules

    try:
        condition = parse_condition(shape.when)
    except ConditionError as error:
        report.fault((*path, "when"), str(error))
        return None
    return AlertRule(shape.name, shape.when, condition, shape.for_, shape.severity, shape.runbook)


def _check_names(shape: AlertsShape, report: Report) -> None:
    seen: set[str] = set()
    for index, rule in enumerate(shape.rules):
        if rule.name in seen and not report.bad("alerts", "rules", index):
            report.fault(("alerts", "rules", index, "name"), f"another rule is called {quoted(rule.name)}")
        seen.add(rule.name)


def _receiver(shape: AlertNotifyShape, path: Path, report: Report) -> WebhookNotify | CommandNotify | None:
    if report.bad(*path):
        return None
    if (shape.webhook is None) == (shape.command is None):
        report.fault(path, "needs either webhook or command")
    elif shape.webhook is not None:
        why = why_not_url(shape.webhook)
        if why is not None:
            report.fault((*path, "webhook"), why)
        return WebhookNotify(shape.webhook, shape.format)
    elif shape.command is not None:
        if not shape.command or not shape.command[0]:
            report.fault((*path, "command"), "is empty: it needs a program")
        return CommandNotify(shape.command)
    return None
