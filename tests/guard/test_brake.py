import inspect
import json
import logging
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from supervisor.guard.brake import MemoryEmergency, MemoryMonitor, check_memory
from supervisor.guard.oom import Failure, classify
from supervisor.guard.room import Room, Roots, Unreadable, smallest_room

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
GIB = 1 << 30
UNKNOWN = Unreadable("cannot read /proc/meminfo: Permission denied")


class Pruned(Exception):  # noqa: N818 - stands for optuna.TrialPruned
    """What Optuna's trials are ended with."""


OPTUNA = SimpleNamespace(TrialPruned=Pruned)


class Trial:
    """A trial that keeps its attributes, or whose storage is down."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.user_attrs: dict[str, Any] = {}
        self._fault = fault

    def set_user_attr(self, key: str, value: Any) -> None:  # noqa: ANN401
        if self._fault is not None:
            raise self._fault
        self.user_attrs[key] = value


class Memory:
    """So many GiB are left, of 16 that a cgroup allows."""

    def __init__(self, left_gib: float) -> None:
        self.left_gib: float | None = left_gib

    def read(self) -> Room | Unreadable:
        if self.left_gib is None:
            return UNKNOWN
        return Room(int(self.left_gib * GIB), 16 * GIB, "memory.max of the cgroup /chat")


def monitor(memory: Memory, optuna: object = OPTUNA) -> MemoryMonitor:
    return MemoryMonitor(read=memory.read, modules={} if optuna is None else {"optuna": optuna})


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]


def raised_by(work: Callable[[], object]) -> BaseException:
    with pytest.raises((MemoryEmergency, Pruned)) as raised:
        work()
    return raised.value


REASON = "1.50 GiB of memory left by memory.max of the cgroup /chat, below 2.00 GiB, at epoch 3"


def test_a_trial_is_pruned_and_keeps_why() -> None:
    trial = Trial()
    with pytest.raises(Pruned, match=r"1\.50 GiB of memory left") as raised:
        monitor(Memory(1.5)).check(trial, "epoch 3")
    assert str(raised.value) == REASON
    assert trial.user_attrs == {
        "emergency_killed": True,
        "kill_reason": REASON,
        "available_gb_at_kill": 1.5,
    }


@pytest.mark.parametrize(("trial", "optuna"), [(None, OPTUNA), (Trial(), None), (None, None)])
def test_without_a_trial_or_without_optuna_it_is_an_emergency(trial: Trial | None, optuna: object) -> None:
    with pytest.raises(MemoryEmergency) as raised:
        monitor(Memory(1.5), optuna).check(trial, "epoch 3")
    assert str(raised.value) == REASON
    if trial is not None:
        assert trial.user_attrs["emergency_killed"] is True


def test_a_storage_that_is_down_does_not_loosen_the_brake(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Pruned):
        monitor(Memory(1.5)).check(Trial(OSError("disk full")), "epoch 3")
    assert told(caplog) == [
        f"WARNING emergency brake: {REASON}",
        "WARNING attributes of the trial not stored: disk full",
    ]


@pytest.mark.parametrize("left_gib", [2.0, 3.0, 4.0, 16.0])
def test_at_the_safe_threshold_and_above_the_work_goes_on(left_gib: float) -> None:
    trial = Trial()
    room = monitor(Memory(left_gib)).check(trial, "epoch 3")
    assert room == Room(int(left_gib * GIB), 16 * GIB, "memory.max of the cgroup /chat")
    assert trial.user_attrs == {}


def test_short_memory_is_told_once_for_each_change(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "supervisor.guard")
    memory = Memory(8)
    watching = monitor(memory)
    for left_gib in (8, 4, 3.9, 3.5, 4.1, 3.9, 5, 6, 3):
        memory.left_gib = left_gib
        watching.check(context=f"{left_gib}")
    of = "of memory left by memory.max of the cgroup /chat, below 4.00 GiB"
    assert told(caplog) == [
        f"WARNING memory short: 3.90 GiB {of}, at 3.9",
        "INFO memory no longer short: 5.00 GiB of memory.max of the cgroup /chat",
        f"WARNING memory short: 3.00 GiB {of}, at 3",
    ]


def test_unknown_memory_ends_nothing_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    memory = Memory(8)
    watching = monitor(memory)
    memory.left_gib = None
    assert [watching.check(Trial()) for _ in range(3)] == [UNKNOWN] * 3
    once = ["WARNING memory not readable: cannot read /proc/meminfo: Permission denied"]
    assert told(caplog) == once
    memory.left_gib = 8
    watching.check()
    memory.left_gib = None
    watching.check()
    assert told(caplog) == once * 2


def test_the_room_in_the_cgroup_counts_though_the_host_has_plenty(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": "MemTotal: 67108864 kB\nMemAvailable: 60000000 kB\n",
        "proc/self/cgroup": "0::/chat\n",
        "cgroup/chat/memory.max": f"{4 * GIB}\n",
        "cgroup/chat/memory.current": f"{3 * GIB}\n",
        "cgroup/chat/memory.stat": "inactive_file 0\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    roots = Roots(str(tmp_path / "proc"), str(tmp_path / "cgroup"), {})
    with pytest.raises(MemoryEmergency) as raised:
        MemoryMonitor(read=lambda: smallest_room(roots)).check()
    reason = "1.00 GiB of memory left by memory.max of the cgroup /chat, below 2.00 GiB"
    assert str(raised.value) == reason


def test_this_process_is_checked_for_real() -> None:
    assert isinstance(check_memory(safe_threshold_gb=0, warning_threshold_gb=0), Room)
    with pytest.raises(MemoryEmergency, match=r"below 1000000\.00 GiB, at the test$"):
        check_memory(None, "the test", 1e6, 1e6)


def test_an_emergency_is_not_taken_for_an_out_of_memory_that_smaller_work_would_mend() -> None:
    def while_handling_an_oom() -> None:
        try:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")  # noqa: TRY301
        except RuntimeError as error:
            monitor(Memory(1.5)).check(context=str(error))

    emergency = raised_by(while_handling_an_oom)
    assert not isinstance(emergency, MemoryError)
    assert classify(emergency) is Failure.BRAKE


def test_the_thresholds_are_those_of_the_interface_unless_given() -> None:
    for checked in (check_memory, MemoryMonitor):
        parameters = inspect.signature(checked).parameters
        assert parameters["safe_threshold_gb"].default == 2.0
        assert parameters["warning_threshold_gb"].default == 4.0


@pytest.mark.parametrize(("safe_gb", "warning_gb"), [(4.0, 2.0), (-1.0, 2.0), (float("nan"), 2.0)])
def test_thresholds_that_make_no_sense_are_refused(safe_gb: float, warning_gb: float) -> None:
    with pytest.raises(ValueError, match="cannot watch memory: 0 <= safe <= warning is not true of"):
        MemoryMonitor(safe_gb, warning_gb)


@pytest.mark.slow
def test_optuna_prunes_the_trial_goes_on_and_stores_why(optuna_python: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [optuna_python, str(HERE / "real/pruned_study.py"), str(tmp_path / "study.db")],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    of = "GiB of memory left by memory.max of the cgroup /study, below 2.00 GiB, at epoch 1"
    assert json.loads(done.stdout) == [
        {"state": "COMPLETE"},
        {
            "state": "PRUNED",
            "emergency_killed": True,
            "kill_reason": f"1.50 {of}",
            "available_gb_at_kill": 1.5,
        },
        {
            "state": "PRUNED",
            "emergency_killed": True,
            "kill_reason": f"1.90 {of}",
            "available_gb_at_kill": 1.9,
        },
        {"state": "COMPLETE"},
    ]
