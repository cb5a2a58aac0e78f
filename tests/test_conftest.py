"""What tests/conftest.py promises: nothing is left behind, and CI does not skip what it should have."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]

LEAVES_A_CHILD = """
import subprocess, sys
def test_leaves_a_child():
    subprocess.Popen(["sleep", "987654"])
"""
LEAVES_AN_ORPHAN = """
import subprocess
def test_leaves_an_orphan():
    subprocess.run(["sh", "-c", "env -i PATH=$PATH setsid sleep 987654 >/dev/null 2>&1 &"], check=True)
"""
CLEAN = """
import subprocess
def test_cleans_up():
    child = subprocess.Popen(["sleep", "987654"])
    child.kill()
    child.wait()
"""
REQUIRES = """
def test_requires(require):
    require(False, "a part that nobody has")
"""


def outcome(directory: Path, source: str, ci: str) -> subprocess.CompletedProcess[str]:
    """Run one test file under a copy of our conftest, in a process of its own."""
    shutil.copy(CHECKOUT / "tests/conftest.py", directory / "conftest.py")
    (directory / "test_it.py").write_text(source)
    pytest_alone = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "ignore"]
    return subprocess.run(
        [*pytest_alone, "-c", str(CHECKOUT / "pyproject.toml"), str(directory)],
        env={**os.environ, "CI": ci},
        cwd=CHECKOUT,
        text=True,
        capture_output=True,
        check=False,
        timeout=50,
    )


def sleepers(mark: str) -> list[str]:
    """List the live processes with `mark` among their arguments."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(entry.name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize(("source", "mark"), [(LEAVES_A_CHILD, "987651"), (LEAVES_AN_ORPHAN, "987652")])
def test_a_process_left_behind_fails_the_run_and_is_ended(tmp_path: Path, source: str, mark: str) -> None:
    done = outcome(tmp_path, source.replace("987654", mark), ci="")
    assert done.returncode == 1
    assert "processes that the tests left behind" in done.stdout
    assert f"sleep {mark}" in done.stdout
    assert "1 passed" in done.stdout.splitlines()[-1]
    deadline = time.monotonic() + 5
    while sleepers(mark):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_test_that_ends_what_it_started_is_fine(tmp_path: Path) -> None:
    assert outcome(tmp_path, CLEAN, ci="").returncode == 0


def test_an_absent_part_skips_on_a_laptop(tmp_path: Path) -> None:
    done = outcome(tmp_path, REQUIRES, ci="")
    assert done.returncode == 0
    assert "a part that nobody has" in done.stdout
    assert "1 skipped" in done.stdout.splitlines()[-1]


def test_an_absent_part_fails_in_ci(tmp_path: Path) -> None:
    done = outcome(tmp_path, REQUIRES, ci="true")
    assert done.returncode == 1
    assert "absent in CI: a part that nobody has" in done.stdout


@pytest.mark.parametrize(("ci", "code", "told"), [("", 0, "1 skipped"), ("true", 1, "1 error")])
def test_a_machine_without_qemu_skips_the_system_tests_and_ci_fails(ci: str, code: int, told: str) -> None:
    one = "tests/system/test_machine.py::test_systemd_is_pid_1_on_cgroup_v2_with_the_memory_controller"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", one],
        env={**os.environ, "CI": ci, "PATH": "/nonexistent"},
        cwd=CHECKOUT,
        text=True,
        capture_output=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == code
    assert "a virtual machine needs qemu-system-x86_64 (package qemu-system-x86)" in done.stdout
    assert told in done.stdout.splitlines()[-1]
