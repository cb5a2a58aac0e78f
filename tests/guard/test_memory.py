import logging
import sys
import weakref
from collections.abc import Callable

import pytest

from guard.fakes import FakeTorch
from supervisor.guard.advice import Advice, Steps
from supervisor.guard.device import DeviceMemory, Reader, Unreadable
from supervisor.guard.memory import Loaded, MemoryManager
from supervisor.guard.oom import Failure
from supervisor.guard.pressure import Pressure

GIB = 1 << 30
SMALLER = Advice(clear_cache=True, batch_size=1)
SMALLEST = Advice(clear_cache=True, batch_size=1, input_size=(640, 640))
ON_THE_CPU = SMALLEST._replace(cpu_fallback=True)


class Device:
    """A device of 100 GiB that a test fills, and a clock that it moves."""

    def __init__(self) -> None:
        self.used_gib: float | None = 0
        self.now_s = 100.0
        self.readings = 0
        self.asked: list[str] = []

    def clock(self) -> float:
        return self.now_s

    def reader_for(self, device: str) -> Reader:
        self.asked.append(device)
        return self.read

    def read(self) -> DeviceMemory | Unreadable:
        self.readings += 1
        if self.used_gib is None:
            return Unreadable("cannot read cuda:0: it is gone")
        return DeviceMemory(100 * GIB, int((100 - self.used_gib) * GIB), 40 * GIB, 50 * GIB)


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> FakeTorch:
    torch = FakeTorch()
    monkeypatch.setitem(sys.modules, "torch", torch)
    return torch


@pytest.fixture
def manager(device: Device) -> MemoryManager:
    return MemoryManager(clock=device.clock, reader_for=device.reader_for)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]


def test_pressure_follows_the_device_up_and_down(device: Device, manager: MemoryManager) -> None:
    seen: list[str] = []
    for used_gib in (50, 80, 90, 96, 92, 82, 79, 60):
        device.used_gib = used_gib
        device.now_s += 1
        seen.append(manager.check_memory_pressure())
    assert seen == ["normal", "high", "critical", "extreme", "extreme", "critical", "high", "normal"]


def test_the_device_is_read_once_in_an_interval(device: Device, manager: MemoryManager) -> None:
    assert manager.check_memory_pressure() is Pressure.NORMAL
    device.used_gib = 99
    device.now_s += 0.9
    assert manager.check_memory_pressure() is Pressure.NORMAL
    assert device.readings == 1
    device.now_s += 0.2
    assert manager.check_memory_pressure() is Pressure.EXTREME
    assert device.readings == 2


def test_a_change_is_logged_once_with_its_numbers(
    device: Device, manager: MemoryManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "supervisor.guard")
    for used_gib in (50, 91, 91, 91, 50, 50):
        device.used_gib = used_gib
        device.now_s += 1
        manager.check_memory_pressure()
    assert told(caplog) == [
        (
            "WARNING memory pressure: critical, before normal, on cuda:0, "
            "usage 91.0%, allocated 40.00GiB, reserved 50.00GiB, total 100.00GiB"
        ),
        (
            "INFO memory pressure: normal, before critical, on cuda:0, "
            "usage 50.0%, allocated 40.00GiB, reserved 50.00GiB, total 100.00GiB"
        ),
    ]


def test_a_device_that_cannot_be_read_keeps_its_level_and_is_told_once(
    device: Device, manager: MemoryManager, caplog: pytest.LogCaptureFixture
) -> None:
    device.used_gib = 90
    manager.check_memory_pressure()
    caplog.clear()
    device.used_gib = None
    for _ in range(3):
        device.now_s += 1
        assert manager.check_memory_pressure() is Pressure.CRITICAL
    assert told(caplog) == ["WARNING memory not readable: cannot read cuda:0: it is gone"]


def test_each_level_clears_the_cache_and_asks_for_more(manager: MemoryManager, torch: FakeTorch) -> None:
    assert manager.reduce_memory_usage(Pressure.NORMAL) == Advice()
    assert torch.done == []
    assert manager.reduce_memory_usage(Pressure.HIGH) == Advice(clear_cache=True)
    assert torch.done == ["synchronize 0", "empty_cache"]
    assert manager.reduce_memory_usage(Pressure.CRITICAL) == SMALLER
    assert manager.get_memory_stats()["degradation_level"] == 0
    assert manager.reduce_memory_usage(Pressure.EXTREME) == SMALLEST
    assert manager.get_memory_stats()["degradation_level"] == 1


def test_asking_for_every_batch_does_not_clear_the_cache_for_every_batch(
    device: Device, manager: MemoryManager, torch: FakeTorch
) -> None:
    for _ in range(5):
        assert manager.reduce_memory_usage(Pressure.EXTREME) == SMALLEST
    assert torch.done == ["synchronize 0", "empty_cache"]
    assert manager.get_memory_stats()["degradation_level"] == 1
    device.now_s += 1
    manager.reduce_memory_usage(Pressure.EXTREME)
    assert torch.done == ["synchronize 0", "empty_cache"] * 2
    assert manager.get_memory_stats()["degradation_level"] == 2


def test_quality_comes_back_only_by_hand(device: Device, manager: MemoryManager) -> None:
    manager.reduce_memory_usage(Pressure.EXTREME)
    device.now_s += 3600
    assert manager.check_memory_pressure() is Pressure.NORMAL
    assert manager.reduce_memory_usage(Pressure.NORMAL) == SMALLEST
    manager.reset_degradation()
    assert manager.advice == Advice()
    assert manager.get_memory_stats()["degradation_level"] == 0


def test_protected_stages_are_never_turned_off(device: Device) -> None:
    steps = Steps(stages=("rerank", "classify"), never=("classify",))
    manager = MemoryManager(steps=steps, clock=device.clock, reader_for=device.reader_for)
    assert manager.reduce_memory_usage(Pressure.EXTREME).stages_off == ("rerank",)
    for _ in range(5):
        assert manager.handle_oom_error().stages_off == ("rerank",)


def test_each_out_of_memory_asks_for_one_step_more_and_the_third_for_the_cpu(
    manager: MemoryManager, torch: FakeTorch
) -> None:
    assert [manager.handle_oom_error() for _ in range(3)] == [SMALLER, SMALLEST, ON_THE_CPU]
    assert torch.done == ["synchronize 0", "empty_cache"] * 3
    assert manager.get_memory_stats()["oom_events"] == 3
    manager.reset_degradation()
    assert manager.handle_oom_error() == SMALLER
    assert manager.get_memory_stats()["oom_events"] == 4


def test_the_cpu_is_no_refuge_when_the_host_is_full(manager: MemoryManager) -> None:
    assert [manager.handle_oom_error(Failure.HOST_OOM) for _ in range(4)] == [SMALLER, *[SMALLEST] * 3]


def failing(errors: list[Exception], seen: list[Advice]) -> Callable[[Advice], str]:
    def work(advice: Advice) -> str:
        seen.append(advice)
        if errors:
            raise errors.pop(0)
        return "done"

    return work


OOM = "CUDA out of memory. Tried to allocate 2.00 GiB."


def test_work_is_tried_again_with_less_until_it_passes(
    manager: MemoryManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "supervisor.guard")
    seen: list[Advice] = []
    assert manager.attempt(failing([RuntimeError(OOM), RuntimeError(OOM)], seen)) == "done"
    assert seen == [Advice(), SMALLER, SMALLEST]
    numbers = "usage 0.0%, allocated 40.00GiB, reserved 50.00GiB, total 100.00GiB"
    assert told(caplog) == [
        f"WARNING out of memory: device-oom, event 1, {numbers}",
        f"WARNING out of memory: device-oom, event 2, {numbers}",
        f"INFO recovered: after 2 retries, on cuda:0, {numbers}",
    ]
    stats = manager.get_memory_stats()
    assert (stats["oom_events"], stats["recoveries"]) == (2, 1)


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (RuntimeError(OOM), [Advice(), SMALLER, SMALLEST, ON_THE_CPU]),
        (MemoryError(), [Advice(), SMALLER, SMALLEST]),
        (RuntimeError("CUDA error: device-side assert triggered"), [Advice()]),
        (ValueError("no pixels"), [Advice()]),
    ],
)
def test_work_that_nothing_helps_raises_its_error(
    error: Exception, tries: list[Advice], manager: MemoryManager
) -> None:
    seen: list[Advice] = []
    with pytest.raises(type(error)) as raised:
        manager.attempt(failing([error] * 9, seen))
    assert raised.value is error
    assert seen == tries
    assert manager.get_memory_stats()["recoveries"] == 0


class Tensor:
    """Something that a failed try held."""


def test_what_a_failed_try_held_is_free_before_the_next(manager: MemoryManager) -> None:
    held: list[weakref.ref[Tensor]] = []

    def work(_advice: Advice) -> int:
        alive = sum(reference() is not None for reference in held)
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        if len(held) < 3:
            raise RuntimeError(OOM)
        return alive

    assert manager.attempt(work) == 0


def loading(full: dict[str, Exception], tried: list[str]) -> Callable[[str], str]:
    def load(device: str) -> str:
        tried.append(device)
        if device in full:
            raise full[device]
        return f"model on {device}"

    return load


def test_a_model_falls_back_to_the_first_device_with_room(device: Device, manager: MemoryManager) -> None:
    tried: list[str] = []
    load = loading({"cuda:0": RuntimeError(OOM), "cuda:1": RuntimeError(OOM)}, tried)
    assert manager.load_model(load, ["cuda:0", "cuda:1", "cpu"]) == Loaded("model on cpu", "cpu")
    assert tried == ["cuda:0", "cuda:1", "cpu"]
    assert manager.device == "cpu"
    assert device.asked == ["cuda:0", "cuda:1", "cpu"]
    assert manager.advice == Advice()
    stats = manager.get_memory_stats()
    assert (stats["oom_events"], stats["recoveries"]) == (2, 1)


def test_the_device_that_a_model_fell_back_to_is_read_at_once(device: Device, manager: MemoryManager) -> None:
    manager.check_memory_pressure()
    manager.load_model(loading({"cuda:0": RuntimeError(OOM)}, []))
    device.used_gib = 90
    assert manager.check_memory_pressure() is Pressure.CRITICAL


def test_a_model_that_fits_stays_where_it_was_wanted(manager: MemoryManager) -> None:
    assert manager.load_model(loading({}, [])) == Loaded("model on cuda:0", "cuda:0")
    stats = manager.get_memory_stats()
    assert (stats["oom_events"], stats["recoveries"]) == (0, 0)


def test_a_gpu_that_was_given_up_is_not_tried_again(manager: MemoryManager) -> None:
    for _ in range(3):
        manager.handle_oom_error()
    tried: list[str] = []
    assert manager.load_model(loading({}, tried)).device == "cpu"
    assert tried == ["cpu"]


def test_a_model_that_fits_nowhere_or_is_broken_raises_its_error(manager: MemoryManager) -> None:
    everywhere: dict[str, Exception] = {"cuda:0": RuntimeError(OOM), "cpu": MemoryError("no room")}
    with pytest.raises(MemoryError, match="no room"):
        manager.load_model(loading(everywhere, []))
    tried: list[str] = []
    with pytest.raises(ValueError, match="unknown architecture"):
        manager.load_model(loading({"cuda:0": ValueError("unknown architecture")}, tried))
    assert tried == ["cuda:0"]
    with pytest.raises(ValueError, match="cannot load a model: no devices are given"):
        manager.load_model(loading({}, []), [])


def test_the_statistics_are_those_of_stats(device: Device, manager: MemoryManager) -> None:
    device.used_gib = 80
    manager.check_memory_pressure()
    assert manager.get_memory_stats() == {
        "cuda_available": False,
        "current_pressure": "high",
        "oom_events": 0,
        "recoveries": 0,
        "degradation_level": 0,
        "allocated_mb": 40960.0,
        "allocated_gb": 40.0,
        "reserved_mb": 51200.0,
        "reserved_gb": 50.0,
        "total_mb": 102400.0,
        "total_gb": 100.0,
        "usage_percent": 80.0,
        "allocated_percent": 40.0,
    }


def test_figures_that_cannot_be_had_are_none_with_their_reason(
    device: Device, manager: MemoryManager, torch: FakeTorch
) -> None:
    device.used_gib = None
    assert torch.done == []
    stats = manager.get_memory_stats()
    unknown = ["allocated_gb", "allocated_mb", "allocated_percent", "reserved_gb", "reserved_mb"]
    unknown += ["total_gb", "total_mb", "usage_percent"]
    assert sorted(name for name, value in stats.items() if value is None) == unknown
    assert stats["missing"] == dict.fromkeys(unknown, "cannot read cuda:0: it is gone")
    assert stats["cuda_available"] is True


def test_a_snapshot_is_the_last_reading_and_reads_no_more_often_than_the_interval(
    device: Device, manager: MemoryManager
) -> None:
    first = manager.snapshot()
    assert (first.level, first.advice, first.stats["usage_percent"]) == (Pressure.NORMAL, Advice(), 0.0)
    device.used_gib = 90
    manager.handle_oom_error()
    readings = device.readings
    second = manager.snapshot()
    assert (second.level, second.advice, second.stats["usage_percent"]) == (Pressure.NORMAL, SMALLER, 0.0)
    assert second.stats["oom_events"] == 1
    assert device.readings == readings
    device.now_s += 1
    third = manager.snapshot()
    assert (third.level, third.stats["current_pressure"]) == (Pressure.CRITICAL, "critical")
    assert third.stats["usage_percent"] == 90.0
    assert third.stats == {**manager.get_memory_stats(), "cuda_available": False}


@pytest.mark.parametrize(
    ("torch", "known"),
    [
        (FakeTorch(), True),
        (FakeTorch(initialized=False), None),
        (FakeTorch(initialized=False, built=False), False),
        (None, False),
    ],
)
def test_a_snapshot_does_not_wake_a_gpu_that_torch_has_not_begun_to_use(
    monkeypatch: pytest.MonkeyPatch, manager: MemoryManager, torch: FakeTorch | None, *, known: bool | None
) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    if torch is not None:
        monkeypatch.setitem(sys.modules, "torch", torch)
    stats = manager.snapshot().stats
    assert stats["cuda_available"] is known
    why = {"cuda_available": "torch has not begun to use its GPU"}
    assert stats.get("missing") == (why if known is None else None)


def test_the_contract_as_it_is_written(device: Device) -> None:
    device.used_gib = 60
    by_place = MemoryManager("cuda:0", 0.2, 0.5, 0.9, 1.0, 0.05, reader_for=device.reader_for)
    assert by_place.check_memory_pressure() is Pressure.CRITICAL
    by_name = MemoryManager(
        device="cuda:0",
        warning_threshold=0.2,
        high_threshold=0.5,
        critical_threshold=0.9,
        check_interval=1.0,
        hysteresis=0.05,
        reader_for=device.reader_for,
    )
    assert by_name.check_memory_pressure() is Pressure.CRITICAL


def test_wrong_thresholds_and_devices_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="cannot watch memory"):
        MemoryManager(warning_threshold=0.9, high_threshold=0.8)
    with pytest.raises(ValueError, match="cannot watch 'gpu7'"):
        MemoryManager("gpu7")


def test_without_torch_and_without_fakes_the_host_is_watched() -> None:
    manager = MemoryManager("cpu")
    assert manager.check_memory_pressure() in list(Pressure)
    total_gb = manager.get_memory_stats()["total_gb"]
    assert isinstance(total_gb, float)
    assert total_gb > 0


def test_each_model_makes_do_with_its_own_smallest_input(device: Device) -> None:
    steps = {
        "detector": Steps(input_size=(320, 320)),
        "reader": Steps(batch_size=4, input_size=(320, 96), stages=("deskew",)),
        "classifier": Steps(),
    }
    managers = {
        name: MemoryManager(steps=each, clock=device.clock, reader_for=device.reader_for)
        for name, each in steps.items()
    }
    assert {name: each.reduce_memory_usage(Pressure.EXTREME) for name, each in managers.items()} == {
        "detector": Advice(clear_cache=True, batch_size=1, input_size=(320, 320)),
        "reader": Advice(clear_cache=True, batch_size=4, input_size=(320, 96), stages_off=("deskew",)),
        "classifier": SMALLEST,
    }
