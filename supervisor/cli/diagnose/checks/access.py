"""Permissions: who may command the daemon, and who may write what it obeys."""

from collections.abc import Iterator
from typing import Final

from supervisor.cli.diagnose.facts import Access, Away, Facts, FileSeen
from supervisor.cli.diagnose.finding import Finding, Findings, Severity, not_looked_at, ok
from supervisor.model.reading import Missing

OTHERS_WRITE: Final = 0o002
OTHERS: Final = 0o007


def check_access(facts: Facts) -> Findings:
    """Look at the modes of every file that the daemon lives by."""
    if isinstance(facts.access, Missing):
        yield not_looked_at("access", facts.access)
        return
    if isinstance(facts.daemon, Away) and facts.daemon.kind == "refused":
        yield _refused(facts.daemon, facts.access)
    for seen in facts.access.files:
        yield from _file(seen)


def _refused(daemon: Away, access: Access) -> Finding:
    group = next((each.group for each in access.files if each.role == "control-socket" and each.group), "")
    seen = f"user {access.user}, of groups {', '.join(access.groups)}, may not ask the daemon: {daemon.why}"
    do = "use sudo"
    if group and group != "root":
        do = f"`sudo usermod --append --groups {group} {access.user}` and log in again, or use sudo"
    return Finding(Severity.WARNING, "control-socket-refused", seen, do)


def _file(seen: FileSeen) -> Iterator[Finding]:
    if isinstance(seen.mode, Missing):
        if not seen.absent:  # one that has to be there, and is not, is a fault of the configuration
            yield not_looked_at(
                seen.role, Missing(f"{seen.path}: {seen.mode.why}"), "`sudo gpu-supervisor diagnose`"
            )
        return
    shown = f"{seen.path} is {seen.mode:04o} {seen.owner}:{seen.group}"
    if seen.mode & OTHERS_WRITE:
        yield Finding(
            Severity.CRITICAL,
            f"{seen.role}-open",
            f"{shown}: every user of this machine can {_power(seen)}",
            f"`sudo chmod o-w {seen.path}`",
        )
    elif seen.role in {"state-dir", "log-dir"} and seen.mode & OTHERS:
        what = f"{shown}: every user of this machine can look into it"
        yield Finding(Severity.WARNING, f"{seen.role}-open", what, f"`sudo chmod 700 {seen.path}`")
    else:
        yield ok(f"{seen.role}-open", shown)


def _power(seen: FileSeen) -> str:
    if seen.role == "control-socket":
        return "stop and start workers"
    if seen.role in {"config", "environment-file"}:
        return "have the daemon run what they like"
    return "change what it remembers"
