"""Every check, in the order of the report."""

from collections.abc import Callable
from typing import Final

from supervisor.cli.diagnose.checks.access import check_access
from supervisor.cli.diagnose.checks.caps import check_caps
from supervisor.cli.diagnose.checks.config import check_config
from supervisor.cli.diagnose.checks.daemon import check_daemon
from supervisor.cli.diagnose.checks.driver import check_driver
from supervisor.cli.diagnose.checks.gpus import check_gpus
from supervisor.cli.diagnose.checks.host import check_host
from supervisor.cli.diagnose.checks.kernel_log import check_kernel_log
from supervisor.cli.diagnose.checks.units import check_units
from supervisor.cli.diagnose.checks.workers import check_workers
from supervisor.cli.diagnose.facts import Facts
from supervisor.cli.diagnose.finding import Finding, Findings, Severity
from supervisor.cli.diagnose.scrub import Scrubber

CHECKS: Final[tuple[Callable[[Facts], Findings], ...]] = (
    check_daemon,
    check_workers,
    check_gpus,
    check_driver,
    check_host,
    check_caps,
    check_kernel_log,
    check_config,
    check_units,
    check_access,
)
WORST_FIRST: Final = (Severity.CRITICAL, Severity.WARNING, Severity.INFO, Severity.OK)


def judge(facts: Facts, scrubber: Scrubber) -> tuple[Finding, ...]:
    """Return all findings, the worst first, none of them with a secret."""
    found = (finding for check in CHECKS for finding in check(facts))
    return tuple(
        sorted(
            (_scrubbed(each, scrubber) for each in found), key=lambda each: WORST_FIRST.index(each.severity)
        )
    )


def _scrubbed(finding: Finding, scrubber: Scrubber) -> Finding:
    return Finding(
        finding.severity,
        finding.id,
        scrubber.text(finding.seen),
        scrubber.text(finding.do),
        finding.subject,
        finding.runbook,
        scrubber.lines(finding.lines),
    )
