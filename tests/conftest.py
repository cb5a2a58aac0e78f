"""What every test has: `require`, options for tests that need more than this machine, and a clean end.

* `require(condition, why)` skips a test whose real part is absent on a laptop, and fails it in CI.
* Tests marked `gpu` skip where there is none, in CI as well: CI has none.
* After the last test no process may be left that a test has started, not even an orphan.
"""

import os
import signal
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

pytest_plugins = [
    "support.axe",
    "support.debian",
    "support.llama.fixtures",
    "support.packages",
    "support.torch.fixtures",
]

Require = Callable[[object, str], None]

# Stands at the end of PATH, so that whatever the tests start carries it: of the rest of the environment
# a supervisor hands little on to its workers.
MARK = f"/nonexistent/gpu-supervisor-tests-{os.getpid()}-{uuid.uuid4().hex[:8]}"
LEFT_BEHIND = pytest.StashKey[list[str]]()
IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--install",
        action="store_true",
        default=IN_CI,
        help="install the real servers that tests need into the cache (scripts/test and CI do)",
    )


def pytest_configure() -> None:
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:{MARK}"


@pytest.fixture(scope="session")
def require() -> Require:
    """Return a function that skips on a laptop, and fails in CI, unless its condition holds."""

    def required(condition: object, why: str) -> None:
        __tracebackhide__ = True
        if condition:
            return
        if IN_CI:
            pytest.fail(f"absent in CI: {why}", pytrace=False)
        pytest.skip(why)

    return required


def _absent_parts() -> Mapping[str, str]:
    absent: dict[str, str] = {}
    if not Path("/proc/driver/nvidia/version").exists():
        absent["gpu"] = "no NVIDIA driver on this machine"
    return absent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = _absent_parts()
    for item in items:
        for marker, why in absent.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=why))


def _left_behind() -> dict[int, str]:
    """Find live processes that this run started: its children, and whoever carries its mark."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            carries = MARK.encode() in (entry / "environ").read_bytes()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # gone, or another user's
            continue
        if state not in "ZX" and (carries or int(parent) == os.getpid()):
            found[int(entry.name)] = command
    return found


def _end(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if pid in _left_behind():  # still the same process, now that the pidfd holds it
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    deadline = time.monotonic() + 1.0  # what was told to end may still be on its way
    while (left := _left_behind()) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        _end(pid)
    session.config.stash[LEFT_BEHIND] = [f"{pid}: {command}" for pid, command in left.items()]
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if left := config.stash.get(LEFT_BEHIND, None):
        terminalreporter.section("processes that the tests left behind (now killed)", red=True, bold=True)
        for line in left:
            terminalreporter.line(line, red=True)
