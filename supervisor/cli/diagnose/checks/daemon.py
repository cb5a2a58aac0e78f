"""The daemon: whether it runs, turns, is the version that is installed, and can remember."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from supervisor.cli.diagnose.facts import Away, Facts
from supervisor.cli.diagnose.finding import Finding, Findings, Severity, ok, page
from supervisor.cli.figures import span
from supervisor.model.reading import Missing
from supervisor.model.status import Status

STALE_S: Final = 60.0  # far beyond any sensible poll_interval
JOURNAL: Final = "`journalctl -u gpu-supervisor -n 100`"


def check_daemon(facts: Facts) -> Findings:
    """Look at the daemon itself."""
    if isinstance(facts.daemon, Away):
        yield from _away(facts.daemon, facts)
        return
    status = facts.daemon.status
    yield _turns(status, facts.taken_wall_s)
    yield from _version(status, facts.version)
    yield from _state(status)


def _away(daemon: Away, facts: Facts) -> Iterator[Finding]:
    if daemon.kind == "refused":
        yield Finding(
            Severity.INFO,
            "daemon-not-looked-at",
            f"not looked at: {daemon.why}",
            "`sudo gpu-supervisor diagnose`",
        )
        return
    if daemon.kind == "silent":
        do = f"{JOURNAL}; `sudo systemctl restart gpu-supervisor`: the workers run on"
        yield Finding(Severity.CRITICAL, "daemon-silent", daemon.why, do, runbook=page("supervisor-stale"))
        return
    configured = not isinstance(facts.config, Missing) and facts.config.exists
    severity = Severity.CRITICAL if configured else Severity.WARNING
    do = f"`sudo systemctl start gpu-supervisor` or `gpu-supervisor run`; {JOURNAL} says why it ended"
    yield Finding(severity, "daemon-not-running", daemon.why, do, runbook=page("supervisor-stale"))


def _turns(status: Status, now_wall_s: float) -> Finding:
    try:
        taken = datetime.fromisoformat(status.taken_at)
    except ValueError:
        return Finding(
            Severity.INFO, "daemon-stale-not-looked-at", f"not looked at: {status.taken_at!r} is no time"
        )
    old_s = now_wall_s - (taken if taken.tzinfo else taken.replace(tzinfo=UTC)).timestamp()
    if old_s > STALE_S:
        seen = f"what it tells is {span(old_s)} old: its loop does not turn, and nobody watches the workers"
        do = f"{JOURNAL}; `sudo systemctl restart gpu-supervisor`: the workers run on"
        return Finding(Severity.CRITICAL, "daemon-stale", seen, do, runbook=page("supervisor-stale"))
    return ok(
        "daemon-stale",
        f"its loop turned {span(old_s)} ago, up {span(status.uptime_s)}, launcher {status.launcher}",
    )


def _version(status: Status, installed: str) -> Iterator[Finding]:
    if status.version == installed:
        yield ok("daemon-version", f"running and installed: {installed}")
        return
    seen = f"{status.version} is running, and {installed} is installed"
    do = "`sudo systemctl restart gpu-supervisor`: the workers run on, and the new version takes them over"
    yield Finding(Severity.WARNING, "daemon-version", seen, do)


def _state(status: Status) -> Iterator[Finding]:
    if status.dry_run:
        do = "start it without `--dry-run`"
        yield Finding(
            Severity.WARNING, "daemon-dry-run", "it runs with --dry-run: nothing that it decides is done", do
        )
    if status.config_refused is not None:
        seen = f"the last reload was refused, the old configuration is in force: {status.config_refused}"
        yield Finding(
            Severity.WARNING,
            "config-refused",
            seen,
            "`gpu-supervisor check-config`, then `gpu-supervisor reload`",
        )
    if status.history == "ok":
        yield ok("history", "kept on disk")
    else:
        seen = f"the history, and what is remembered of workers, is kept {status.history}"
        do = (
            "give it room and a writable state directory: `df -h /var/lib/gpu-supervisor`; it tries"
            " again by itself"
        )
        yield Finding(Severity.WARNING, "history-in-memory", seen, do, runbook=page("supervisor-stale"))
