"""Findings as a person reads them, and as a document."""

from supervisor.cli.diagnose.finding import Finding, Severity, ok
from supervisor.cli.diagnose.text import document, is_critical, render

HELD = Finding(
    Severity.CRITICAL,
    "worker-held",
    "held: 3 failures within 10min, the last: exited with status 3 after 0.0 s",
    "`gpu-supervisor reset chat`",
    "worker chat",
    "docs/runbooks/worker-held.md",
    ("bad \x1b[31mescape",),
)
SWAP = Finding(Severity.WARNING, "swap", "7G of 8G used")
FINDINGS = (HELD, SWAP, ok("kernel", "Linux 6.1"))


def test_what_is_good_is_counted_and_the_rest_is_told_in_the_width_that_there_is() -> None:
    assert render(FINDINGS, verbose=False, columns=60, colour=False) == [
        "critical worker-held (worker chat)",
        "    held: 3 failures within 10min, the last: exited with",
        "    status 3 after 0.0 s",
        "    | bad  [31mescape",
        "    do: `gpu-supervisor reset chat`",
        "    see docs/runbooks/worker-held.md",
        "warning  swap",
        "    7G of 8G used",
        "1 critical, 1 warning, 0 to know, 1 good",
    ]


def test_what_is_good_is_told_too_where_it_is_wanted() -> None:
    lines = render(FINDINGS, verbose=True, columns=60, colour=False)
    assert lines[-3:] == ["ok       kernel", "    Linux 6.1", "1 critical, 1 warning, 0 to know, 1 good"]


def test_the_severity_is_a_colour_and_a_word() -> None:
    lines = render((SWAP,), verbose=False, columns=60, colour=True)
    assert lines[0] == "\x1b[33mwarning \x1b[0m swap"


def test_the_document_has_every_finding_under_stable_keys() -> None:
    told = document(FINDINGS, version="0.1.0", taken_at="2026-11-21T02:38:20Z")
    assert list(told) == ["version", "taken_at", "counts", "findings"]
    assert told["counts"] == {"critical": 1, "warning": 1, "info": 0, "ok": 1}
    assert told["findings"] == [
        {
            "severity": "critical",
            "id": "worker-held",
            "subject": "worker chat",
            "seen": "held: 3 failures within 10min, the last: exited with status 3 after 0.0 s",
            "do": "`gpu-supervisor reset chat`",
            "runbook": "docs/runbooks/worker-held.md",
            "lines": ["bad \x1b[31mescape"],
        },
        {
            "severity": "warning",
            "id": "swap",
            "subject": None,
            "seen": "7G of 8G used",
            "do": None,
            "runbook": None,
            "lines": [],
        },
        {
            "severity": "ok",
            "id": "kernel",
            "subject": None,
            "seen": "Linux 6.1",
            "do": None,
            "runbook": None,
            "lines": [],
        },
    ]


def test_only_what_is_critical_is_a_failure() -> None:
    assert is_critical(FINDINGS)
    assert not is_critical(FINDINGS[1:])
