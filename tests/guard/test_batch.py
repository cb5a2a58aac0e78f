import asyncio
import itertools
import logging
import signal
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import NoReturn, cast

import pytest

from guard.fakes import GIB, FakeTorch, host_memory
from supervisor.guard import BatchRunner, Failed, Heat, MemoryEmergency, MemoryManager, Model, check_memory
from supervisor.guard.device import DeviceMemory, Reader, Unreadable
from supervisor.guard.heat import Gauge
from supervisor.guard.watch import Outside

OOM = "CUDA out of memory. Tried to allocate 2.00 GiB."
POISONED = "CUDA error: an illegal memory access was encountered"


class World:
    """A clock and a device that a test moves, and a function of batches that notes its calls."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept: list[float] = []
        self.calls: list[list[int]] = []
        self.usage: float | None = 0.1
        self.gauge = Gauge()
        self.left: list[str] = []
        self.memory = MemoryManager("cpu", clock=lambda: self.now_s, reader_for=self.reader_for)
        self.environment: dict[str, str] = {}

    def reader_for(self, _device: str) -> Reader:
        return self.read

    def read(self) -> DeviceMemory | Unreadable:
        if self.usage is None:
            return Unreadable("cannot read cuda:0: it is gone")
        return DeviceMemory(100 * GIB, round(100 * GIB * (1 - self.usage)))

    def sleep(self, pause_s: float) -> None:
        self.slept.append(pause_s)
        self.now_s += pause_s

    def leave(self, error: Exception) -> None:
        self.left.append(str(error))

    def outside(self) -> Outside:
        return Outside(
            clock=lambda: self.now_s,
            sleep=self.sleep,
            environment=self.environment,
            leave=self.leave,
            gauge_for=self.gauge_for,
        )

    def gauge_for(self, _device: str) -> Callable[[], Gauge]:
        return lambda: self.gauge

    def double(self, items: list[int]) -> list[int]:
        self.calls.append(items)
        self.now_s += 1.0
        return [2 * item for item in items]

    def with_room_for(self, room: int) -> Callable[[list[int]], list[int]]:
        def function(items: list[int]) -> list[int]:
            results = self.double(items)
            if len(items) > room:
                raise RuntimeError(OOM)
            return results

        return function

    def sizes(self) -> list[int]:
        return [len(items) for items in self.calls]


@pytest.fixture
def world() -> World:
    return World()


def of_models(runner: BatchRunner[int, int]) -> Mapping[str, Mapping[str, object]]:
    return cast("Mapping[str, Mapping[str, object]]", runner.stats()["models"])


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]


def test_the_contract_as_it_is_written(world: World) -> None:
    runner = BatchRunner(world.double, batch_size=12, min_batch_size=1, fallback=[6, 3, 1])
    assert list(runner.run(range(30))) == [2 * item for item in range(30)]
    assert world.sizes() == [12, 12, 6]
    assert list(runner.run([])) == []


def test_memory_that_runs_out_leads_down_the_sizes_and_the_size_that_fits_is_kept(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "supervisor.guard")
    runner = BatchRunner(world.with_room_for(3), memory=world.memory, outside=world.outside())
    assert list(runner.run(range(24))) == [2 * item for item in range(24)]
    assert world.sizes() == [12, 6, 3, 3, 3, 3, 3, 3, 3, 3]
    assert world.slept == [1.0, 1.0]
    numbers = "usage 10.0%, allocated 0.00GiB, reserved 0.00GiB, total 100.00GiB"
    assert told(caplog) == [
        "WARNING batch size: 6, before 12: out of memory with 12",
        f"WARNING out of memory: device-oom, event 1, {numbers}",
        "WARNING batch size: 3, before 6: out of memory with 6",
        f"WARNING out of memory: device-oom, event 2, {numbers}",
        f"INFO recovered: after 2 retries, on cpu, {numbers}",
    ]
    assert world.memory.get_memory_stats()["recoveries"] == 1


def test_what_passed_is_not_run_again(world: World) -> None:
    def function(items: list[int]) -> list[int]:
        results = world.double(items)
        if 7 in items and len(items) > 1:
            raise RuntimeError(OOM)
        return results

    runner = BatchRunner(function, memory=world.memory, outside=world.outside())
    assert list(runner.run(range(12))) == [2 * item for item in range(12)]
    passed = [items for items in world.calls if 7 not in items or len(items) == 1]
    assert sorted(item for items in passed for item in items) == list(range(12))


class Tensor:
    """Something that a failed call held."""


def test_what_a_failed_call_held_is_free_before_the_next(world: World) -> None:
    held: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def deep(tensor: Tensor, items: list[int]) -> list[int]:
        if len(items) > 1:
            try:
                raise RuntimeError(OOM)  # noqa: TRY301 - an error that came from another
            except RuntimeError as error:
                raise ValueError(f"no image from {tensor}") from error
        return items

    def function(items: list[int]) -> list[int]:
        alive.append(sum(reference() is not None for reference in held))
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        return deep(tensor, items)

    runner = BatchRunner(function, memory=world.memory, outside=world.outside())
    assert list(runner.run(range(12))) == list(range(12))
    assert alive == [0] * 15


def test_a_generator_that_lives_on_is_not_closed_for_an_error_that_came_from_it(world: World) -> None:
    faults: list[KeyError] = []

    def rows() -> Iterator[int]:
        for row in itertools.count():
            try:
                if row == 1:
                    raise KeyError(row)  # noqa: TRY301 - what is tested
            except KeyError as error:
                faults.append(error)
                yield -1
            else:
                yield row

    source = rows()

    def function(items: list[int]) -> list[int]:
        read = [next(source) for _ in items]
        if -1 in read:
            raise ValueError("a bad row") from faults[-1]
        return read

    values = list(BatchRunner(function, 2, memory=world.memory, outside=world.outside()).run(range(4)))
    assert values == [2, 3, 4, 5]


def test_what_an_async_call_held_is_free_before_the_next(world: World) -> None:
    held: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    async def function(items: list[int]) -> list[int]:
        alive.append(sum(reference() is not None for reference in held))
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        await asyncio.sleep(0)
        if len(items) > 3:
            raise RuntimeError(OOM)
        return items

    async def main() -> list[object]:
        runner = BatchRunner(function, fallback_delay_s=0, memory=world.memory, outside=world.outside())
        return [value async for value in runner.arun(range(12))]

    assert asyncio.run(main()) == list(range(12))
    assert alive == [0] * 6


def test_the_error_of_an_item_holds_nothing_but_its_words(world: World) -> None:
    held: list[weakref.ref[Tensor]] = []

    def function(items: list[int]) -> list[int]:
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        raise KeyError(items[0])

    [failed] = BatchRunner(function, memory=world.memory, outside=world.outside()).run([5])
    assert isinstance(failed, Failed)
    assert (failed.item, str(failed.error)) == (5, "5")
    assert failed.error.__traceback__ is not None
    assert [reference() for reference in held] == [None]


def test_an_item_that_fails_alone_is_the_only_one_without_a_result(world: World) -> None:
    def function(items: list[int]) -> list[int]:
        if 4 in items:
            world.calls.append(items)
            raise ValueError("no pixels")
        return world.double(items)

    runner = BatchRunner(function, memory=world.memory, outside=world.outside())
    values = list(runner.run(range(12)))
    assert [v for v in values if not isinstance(v, Failed)] == [0, 2, 4, 6, 10, 12, 14, 16, 18, 20, 22]
    assert isinstance(values[4], Failed)
    assert (values[4].item, str(values[4].error)) == (4, "no pixels")
    left, rest = [[0, 1, 2, 3, 4, 5], [0, 1, 2], [3, 4, 5], [3, 4], [3], [4], [5]], [6, 7, 8, 9, 10, 11]
    assert world.calls == [list(range(12)), *left, rest]
    assert world.slept == []


def test_bad_items_are_no_reason_for_smaller_batches(world: World) -> None:
    def function(items: list[int]) -> list[int]:
        if any(item % 20 == 0 for item in items):
            raise ValueError("no pixels")
        return world.double(items)

    runner = BatchRunner(function, memory=world.memory, outside=world.outside())
    assert sum(isinstance(value, Failed) for value in runner.run(range(240))) == 12
    assert of_models(runner)["default"]["batch_size"] == 12


def test_an_item_that_never_fits_is_tried_three_more_times_and_given_up(world: World) -> None:
    runner = BatchRunner(world.with_room_for(0), 2, memory=world.memory, outside=world.outside())
    values = list(runner.run([1, 2]))
    assert [isinstance(value, Failed) and str(value.error) for value in values] == [OOM, OOM]
    assert world.sizes() == [2, 1, 1, 1, 1, 1, 1, 1, 1]
    assert world.slept == [1.0] * 7
    assert runner.stats()["success_rate"] == 0.0


def test_memory_above_the_threshold_halves_the_batch_down_to_the_smallest(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.usage = 0.86
    runner = BatchRunner(world.double, 12, 2, memory=world.memory, outside=world.outside())
    assert list(runner.run(range(20))) == [2 * item for item in range(20)]
    assert world.sizes() == [6, 3, 2, 2, 2, 2, 2, 1]
    assert told(caplog)[0] == (
        "WARNING batch size: 6, before 12: usage 86.0%, allocated 0.00GiB, reserved 0.00GiB, total 100.00GiB"
    )


@pytest.mark.parametrize("usage", [0.85, None])
def test_memory_at_the_threshold_or_not_readable_changes_nothing(world: World, usage: float | None) -> None:
    world.usage = usage
    runner = BatchRunner(world.double, memory=world.memory, outside=world.outside())
    assert len(list(runner.run(range(24)))) == 24
    assert world.sizes() == [12, 12]


def test_where_clearing_the_cache_helps_the_batch_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = FakeTorch(used_gib=79)
    monkeypatch.setitem(sys.modules, "torch", torch)
    torch.cuda.empty_cache = lambda: setattr(torch, "used_gib", 10)
    runner = BatchRunner(world.double, memory=MemoryManager("cuda:0"), outside=world.outside())
    assert len(list(runner.run(range(12)))) == 12
    assert world.sizes() == [12]


def test_two_failed_batches_of_five_mean_one_item_at_a_time_until_it_is_reset(world: World) -> None:
    failing = {1, 4}

    def function(items: list[int]) -> list[int]:
        if len(items) > 1 and items[0] // 12 in failing:
            failing.discard(items[0] // 12)
            raise RuntimeError("cannot connect")
        return world.double(items)

    runner = BatchRunner(function, memory=world.memory, outside=world.outside())
    assert len(list(runner.run(range(72)))) == 72
    assert world.sizes() == [12, 6, 6, 12, 12, 6, 6, *[1] * 12]
    runner.reset()
    world.calls.clear()
    assert len(list(runner.run(range(24)))) == 24
    assert world.sizes() == [12, 12]


def test_after_a_quiet_period_it_grows_again_where_that_is_wanted(world: World) -> None:
    room = [3]

    def function(items: list[int]) -> list[int]:
        return world.with_room_for(room[0])(items)

    runner = BatchRunner(function, quiet_s=10, memory=world.memory, outside=world.outside())
    assert len(list(runner.run(range(12)))) == 12
    room[0] = 12
    world.calls.clear()
    assert len(list(runner.run(range(60)))) == 60
    assert world.sizes() == [3] * 10 + [6] * 5


def test_a_lazy_and_endless_source_is_read_no_further_than_a_batch(world: World) -> None:
    read: list[int] = []

    def source() -> Iterator[int]:
        for item in range(10**9):
            read.append(item)
            yield item

    runner = BatchRunner(world.double, 4, memory=world.memory, outside=world.outside())
    results = runner.run(source())
    assert [next(results) for _ in range(5)] == [0, 2, 4, 6, 8]
    assert len(read) == 8
    results.close()
    assert runner.stats()["items"] == 8


def test_an_error_of_the_source_comes_after_what_was_read_before_it(world: World) -> None:
    def source() -> Iterator[int]:
        yield from range(5)
        raise OSError("the disk is gone")

    results = BatchRunner(world.double, memory=world.memory, outside=world.outside()).run(source())
    assert [next(results) for _ in range(5)] == [0, 2, 4, 6, 8]
    with pytest.raises(OSError, match="the disk is gone"):
        next(results)


def too_few(items: list[int]) -> list[int]:
    return items[1:]


def too_many(items: list[int]) -> list[int]:
    return [*items, 0]


def endless(_items: list[int]) -> Iterator[int]:
    return itertools.repeat(0)


def nothing(_items: list[int]) -> list[int]:
    return None  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (too_few, "3 items were given, 2 results came back"),
        (too_many, "3 items were given, more results came back"),
        (endless, "3 items were given, more results came back"),
        (nothing, "3 items were given, a NoneType, no sequence came back"),
    ],
)
def test_results_that_do_not_match_are_one_clear_error_for_their_items(
    world: World, function: Callable[[list[int]], Iterable[int]], what: str
) -> None:
    values = list(BatchRunner(function, 3, memory=world.memory, outside=world.outside()).run(range(3)))
    assert [(v.item, str(v.error)) for v in values if isinstance(v, Failed)] == [
        (item, f"cannot match results to items: {what}") for item in range(3)
    ]


def test_a_poisoned_context_is_told_and_ends_the_worker(world: World) -> None:
    def function(items: list[int]) -> list[int]:
        if 12 in items:
            raise RuntimeError(POISONED)
        return world.double(items)

    results = BatchRunner(function, memory=world.memory, outside=world.outside()).run(range(24))
    assert [next(results) for _ in range(12)] == [2 * item for item in range(12)]
    with pytest.raises(RuntimeError, match="illegal memory access"):
        next(results)
    assert world.left == [POISONED]


def test_a_context_that_proves_lost_while_clearing_up_ends_the_worker_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = FakeTorch()

    def synchronize(_index: int) -> NoReturn:
        raise RuntimeError(POISONED)

    torch.cuda.synchronize = synchronize
    monkeypatch.setitem(sys.modules, "torch", torch)
    runner = BatchRunner(world.with_room_for(1), memory=MemoryManager("cuda:0"), outside=world.outside())
    with pytest.raises(RuntimeError, match="illegal memory access"):
        list(runner.run(range(12)))
    assert world.left == [POISONED]


@pytest.mark.parametrize("timeout_s", [None, 5.0])
def test_the_emergency_brake_ends_the_run_at_once(world: World, timeout_s: float | None) -> None:
    def function(items: list[int]) -> list[int]:
        if 12 in items:
            world.calls.append(items)
            check_memory(context="the second batch", safe_threshold_gb=1e6, warning_threshold_gb=1e6)
        return world.double(items)

    runner = BatchRunner(function, timeout_s=timeout_s, memory=world.memory, outside=world.outside())
    results = runner.run(range(36))
    assert [next(results) for _ in range(12)] == [2 * item for item in range(12)]
    with pytest.raises(MemoryEmergency, match="at the second batch"):
        next(results)
    assert world.sizes() == [12, 12]


def test_where_no_thread_can_be_had_a_call_waits_as_for_memory_and_no_item_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = iter([True, True])
    start = threading.Thread.start

    def started(thread: threading.Thread) -> None:
        if next(refused, False):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", started)
    runner = BatchRunner(world.double, timeout_s=5, memory=world.memory, outside=world.outside())
    assert list(runner.run(range(12))) == [2 * item for item in range(12)]
    assert world.slept == [1.0, 1.0]


def test_a_signal_handler_may_ask_and_reset_at_any_moment(world: World) -> None:
    asked: list[object] = []
    handling: list[int] = []

    def ask_and_reset(number: int, _frame: object) -> None:
        if not handling:
            handling.append(number)
            asked.append(runner.stats()["items"])
            runner.reset()
            handling.clear()

    def clock() -> float:  # which is read with locks held, too
        signal.raise_signal(signal.SIGUSR1)
        return world.now_s

    outside = world.outside()._replace(clock=clock)
    former = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        runner = BatchRunner(world.with_room_for(3), memory=world.memory, outside=outside)
        signal.signal(signal.SIGUSR1, ask_and_reset)
        assert list(runner.run(range(12))) == [2 * item for item in range(12)]
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert asked[-1] == 12


def test_an_interrupt_is_nobodys_failure(world: World) -> None:
    def function(_items: list[int]) -> list[int]:
        raise KeyboardInterrupt

    for timeout_s in (None, 5.0):
        runner = BatchRunner(function, timeout_s=timeout_s, memory=world.memory, outside=world.outside())
        with pytest.raises(KeyboardInterrupt):
            list(runner.run(range(3)))


def test_a_call_that_takes_more_than_a_minute_for_each_item_is_told_and_its_results_are_kept(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def function(items: list[int]) -> list[int]:
        world.now_s += 121
        return world.double(items)

    runner = BatchRunner(function, 2, memory=world.memory, outside=world.outside())
    assert list(runner.run(range(2))) == [0, 2]
    assert told(caplog) == ["WARNING call overdue: 2 items took 122.0 s, more than 120"]
    assert runner.stats()["timeouts"] == 1


def test_a_call_that_hangs_is_given_up_and_the_others_are_delivered(world: World) -> None:
    release = threading.Event()

    def function(items: list[int]) -> list[int]:
        if 3 in items:
            release.wait(30)
        return [2 * item for item in items]

    runner = BatchRunner(function, 6, timeout_s=0.05, memory=world.memory, outside=world.outside())
    values = list(runner.run(range(12)))
    assert [v for v in values if not isinstance(v, Failed)] == [2 * item for item in range(12) if item != 3]
    assert isinstance(values[3], Failed)
    assert str(values[3].error) == "cannot wait longer than 0.05 s, and it may still be running"
    assert runner.stats()["stuck_calls"] == 2
    release.set()


def test_where_four_calls_hang_no_further_one_is_begun(world: World) -> None:
    release, begun = threading.Event(), list[list[int]]()

    def function(items: list[int]) -> list[int]:
        begun.append(items)
        release.wait(30)
        return items

    desk = Desk()
    runner = BatchRunner(
        function, 1, timeout_s=0.02, memory=world.memory, supervisor=desk, outside=world.outside()
    )
    values: list[object] = []
    for value in runner.run(range(10)):
        world.now_s += 5
        values.append(value)
    assert len(begun) == 4
    # and no heartbeat is sent for what goes on no longer
    assert [(one["state"], one["done"]) for one in desk.told] == [
        *[("processing", done) for done in (1, 2, 3, 4)],
        ("completed", 10),
    ]
    assert [str(cast("Failed[int]", value).error) for value in values[4:]] == [
        "cannot begin with 1 items: earlier calls still hang"
    ] * 6
    release.set()


def test_a_thread_has_the_torch_modes_of_whoever_waits_for_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = threading.local()
    modes.inference = True

    class Mode:
        def __init__(self, on: bool) -> None:  # noqa: FBT001 - as torch has it
            modes.inference = on

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    torch = FakeTorch(initialized=False)
    monkeypatch.setattr(torch, "inference_mode", Mode, raising=False)
    monkeypatch.setattr(torch, "set_grad_enabled", Mode, raising=False)
    monkeypatch.setattr(torch, "is_inference_mode_enabled", lambda: modes.inference, raising=False)
    monkeypatch.setattr(torch, "is_grad_enabled", lambda: True, raising=False)
    monkeypatch.setitem(sys.modules, "torch", torch)

    def function(items: list[int]) -> list[bool]:
        return [getattr(modes, "inference", False)] * len(items)

    runner = BatchRunner(function, timeout_s=5.0, memory=world.memory, outside=world.outside())
    assert list(runner.run([1])) == [True]


@pytest.mark.parametrize(
    ("gauge", "pauses"),
    [
        (Gauge(), []),
        (Gauge(temperature_c=85), []),
        (Gauge(temperature_c=88), [3.0, 3.0]),
        (Gauge(power_w=690, power_limit_w=700), [0.25]),
    ],
)
def test_a_hot_or_hungry_gpu_is_given_pauses(world: World, gauge: Gauge, pauses: list[float]) -> None:
    world.gauge = gauge
    runner = BatchRunner(world.double, memory=world.memory, outside=world.outside())
    assert len(list(runner.run(range(24)))) == 24
    assert world.slept == pauses


class Desk:
    """A supervisor that notes what it is told."""

    def __init__(self) -> None:
        self.advice: frozenset[str] = frozenset()
        self.told: list[dict[str, object]] = []
        self.figures: list[dict[str, object]] = []

    def progress(self, **report: object) -> None:
        self.told.append(report)

    def batches(self, figures: dict[str, object]) -> None:
        self.figures.append(figures)


def test_the_supervisor_hears_of_progress_at_most_once_a_second_and_of_the_end(world: World) -> None:
    desk = Desk()

    def function(items: list[int]) -> list[int]:
        world.now_s += 0.4
        return items

    runner = BatchRunner(
        function,
        10,
        models={"small": Model(10)},
        memory=world.memory,
        supervisor=desk,
        outside=world.outside(),
    )
    assert len(list(runner.run(range(100), model="small"))) == 100
    assert [(one["state"], one["done"]) for one in desk.told] == [
        ("processing", 10),
        ("processing", 40),
        ("processing", 70),
        ("processing", 100),
        ("completed", 100),
    ]
    assert desk.told[1] == {
        "job": "small",
        "state": "processing",
        "done": 40,
        "total": 100,
        "batch_size": 10,
        "throughput": pytest.approx(25.0),
        "eta_s": pytest.approx(2.4),
    }
    assert set(desk.figures[-1]) == {
        "success_rate", "throughput", "batch_efficiency", "recoveries", "peak_memory_bytes",
    }  # fmt: skip


def test_a_run_that_is_left_early_is_not_told_as_completed(world: World) -> None:
    desk = Desk()
    runner = BatchRunner(world.double, 4, memory=world.memory, supervisor=desk, outside=world.outside())
    results = runner.run(range(12))
    assert next(results) == 0
    results.close()
    assert [(one["state"], one["done"], one["total"]) for one in desk.told][-1] == ("processing", 4, 12)
    assert [each for each, _ in zip(runner.run(range(4)), range(4), strict=False)] == [0, 2, 4, 6]
    assert desk.told[-1]["state"] == "completed"


def test_a_run_that_an_error_ends_is_told_as_failed(world: World) -> None:
    desk = Desk()
    runner = BatchRunner(world.double, memory=world.memory, supervisor=desk, outside=world.outside())
    with pytest.raises(ZeroDivisionError):
        list(runner.run(1 // (item - 2) for item in range(5)))
    assert [(one["state"], one["done"]) for one in desk.told][-1] == ("failed", 2)


def test_the_supervisors_word_is_heeded(world: World) -> None:
    desk = Desk()
    desk.advice = frozenset({"cool-down", "stand-on-your-head"})
    runner = BatchRunner(world.double, memory=world.memory, supervisor=desk, outside=world.outside())
    assert len(list(runner.run(range(24)))) == 24
    assert world.slept == [1.0, 1.0]


class TqdmLike:
    def __init__(self) -> None:
        self.n = 0

    def update(self, n: int) -> None:
        self.n += n


def test_progress_moves_a_bar_or_calls_a_function(world: World) -> None:
    bar, seen = TqdmLike(), list[tuple[int, int | None]]()
    BatchRunner(world.double, memory=world.memory, progress=bar)
    assert len(list(BatchRunner(world.double, memory=world.memory, progress=bar).run(range(30)))) == 30
    assert bar.n == 30

    def note(done: int, total: int | None) -> None:
        seen.append((done, total))

    runner = BatchRunner(world.double, memory=world.memory, progress=note)
    assert len(list(runner.run(range(30)))) == 30
    assert len(list(runner.run(iter(range(5))))) == 5
    assert seen == [(12, 30), (24, 30), (30, 30), (5, None)]


def test_a_broken_bar_costs_no_work(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_done: int, _total: int | None) -> None:
        raise OSError("no terminal")

    runner = BatchRunner(world.double, memory=world.memory, progress=broken)
    assert len(list(runner.run(range(30)))) == 30
    assert told(caplog) == ["WARNING progress is no longer shown: no terminal"]


def test_each_model_has_sizes_and_counts_of_its_own(world: World) -> None:
    runner = BatchRunner(
        world.with_room_for(4),
        models={"large": Model(4, (2, 1)), "small": Model(8, (4,))},
        memory=world.memory,
        outside=world.outside(),
    )
    assert len(list(runner.run(range(8), model="large"))) == 8
    assert len(list(runner.run(range(8), model="small"))) == 8
    assert world.sizes() == [4, 4, 8, 4, 4]
    stats = runner.stats()
    assert (stats["batches"], stats["calls"], stats["useful_calls"], stats["recoveries"]) == (3, 5, 4, 1)
    assert (stats["batch_efficiency"], stats["success_rate"], stats["throughput"]) == (0.8, 1.0, 2.6667)
    models = of_models(runner)
    assert {
        name: (one["batch_size"], one["safe_batch_size"], one["items"]) for name, one in models.items()
    } == {
        "default": (12, None, 0),
        "large": (4, 4, 8),
        "small": (4, 4, 8),
    }
    assert isinstance(stats["peak_memory_bytes"], int)
    with pytest.raises(ValueError, match="cannot run model 'huge': the table has large, small"):
        runner.run([1], model="huge")


def test_an_async_function_is_cancelled_when_its_time_is_up(world: World) -> None:
    cancelled: list[list[int]] = []

    async def function(items: list[int]) -> list[int]:
        if 3 in items:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                cancelled.append(items)
                raise
        return items

    async def main() -> list[object]:
        runner = BatchRunner(
            function, 4, timeout_s=0.02, max_retries=1, memory=world.memory, outside=world.outside()
        )
        return [value async for value in runner.arun(range(6))]

    values = asyncio.run(main())
    assert [v for v in values if not isinstance(v, Failed)] == [0, 1, 2, 4, 5]
    assert isinstance(values[3], Failed)
    assert str(values[3].error) == "cannot wait longer than 0.02 s"
    assert cancelled == [[0, 1, 2, 3], [2, 3], [3], [3]]


def test_a_timeout_of_the_functions_own_is_an_error_like_any_other(world: World) -> None:
    async def function(_items: list[int]) -> list[int]:
        raise TimeoutError("the model server does not answer")

    async def main() -> list[object]:
        runner = BatchRunner(function, memory=world.memory, outside=world.outside())
        return [value async for value in runner.arun([1])]

    [failed] = asyncio.run(main())
    assert isinstance(failed, Failed)
    assert str(failed.error) == "the model server does not answer"


def test_a_function_that_is_not_async_does_not_hold_the_loop_up(world: World) -> None:
    waiting, release = threading.Event(), threading.Event()

    def function(items: list[int]) -> list[int]:
        waiting.set()
        assert release.wait(30)
        return items

    async def source() -> AsyncIterator[int]:
        for item in range(3):
            yield item

    async def main() -> list[int | Failed[int]]:
        runner = BatchRunner(function, memory=world.memory, outside=world.outside())

        async def collect() -> list[int | Failed[int]]:
            return [value async for value in runner.arun(source())]

        task = asyncio.create_task(collect())
        while not waiting.is_set():  # noqa: ASYNC110 - the event is set in a thread
            await asyncio.sleep(0.001)
        release.set()  # which only a loop that goes on comes to
        return await task

    assert asyncio.run(main()) == [0, 1, 2]


def test_a_cancelled_task_ends_at_once_and_the_runner_works_on(world: World) -> None:
    waiting, release = threading.Event(), threading.Event()

    def function(items: list[int]) -> list[int]:
        waiting.set()
        assert release.wait(30)
        return items

    async def main() -> list[int | Failed[int]]:
        runner = BatchRunner(function, memory=world.memory, outside=world.outside())

        async def collect() -> list[int | Failed[int]]:
            return [value async for value in runner.arun(range(3))]

        task = asyncio.create_task(collect())
        while not waiting.is_set():  # noqa: ASYNC110 - the event is set in a thread
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
        return await collect()

    assert asyncio.run(main()) == [0, 1, 2]


def test_an_async_function_is_for_arun(world: World) -> None:
    async def function(items: list[int]) -> list[int]:
        return items

    runner = BatchRunner(function, memory=world.memory)
    with pytest.raises(TypeError, match="cannot run an async function: use arun"):
        runner.run([1])


def test_without_a_manager_the_host_is_watched(world: World) -> None:
    runner = BatchRunner(world.double, threshold=1.0)
    assert len(list(runner.run(range(12)))) == 12
    assert runner.stats()["current_memory_bytes"] is not None


def test_without_a_manager_the_gpu_is_watched_once_torch_works_on_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: list[str] = []

    def gauge_for(device: str) -> Callable[[], Gauge]:
        devices.append(device)
        return Gauge

    def load_lazily(items: list[int]) -> list[int]:
        monkeypatch.setitem(sys.modules, "torch", torch)
        return world.double(items)

    torch = FakeTorch()
    torch.cuda.max_memory_allocated = dict.fromkeys([0], 7 * GIB).__getitem__
    idle = FakeTorch(initialized=False)
    idle.cuda.is_available = None  # to ask it would break a later fork
    monkeypatch.setitem(sys.modules, "torch", idle)
    runner = BatchRunner(load_lazily, threshold=1.0, outside=world.outside()._replace(gauge_for=gauge_for))
    assert len(list(runner.run(range(36)))) == 36
    assert devices == ["cpu", "cuda:0"]
    assert runner.stats()["peak_memory_bytes"] == 7 * GIB


def test_what_an_operator_sets_holds_and_an_argument_holds_more(world: World) -> None:
    world.environment = {"MIN_BATCH_SIZE": "4", "GPU_MEMORY_THRESHOLD": "50", "MAX_RETRIES": "0"}
    world.usage = 0.6
    runner = BatchRunner(world.double, memory=world.memory, outside=world.outside())
    assert len(list(runner.run(range(24)))) == 24
    assert world.sizes() == [6, 4, 4, 4, 4, 2]
    world.calls.clear()
    tolerant = BatchRunner(world.double, threshold=0.7, memory=world.memory, outside=world.outside())
    assert len(list(tolerant.run(range(24)))) == 24
    assert world.sizes() == [12, 12]
    assert len(list(BatchRunner(world.double, 2, memory=world.memory, outside=world.outside()).run([1]))) == 1


def test_pauses_can_be_turned_off(world: World) -> None:
    world.gauge = Gauge(99, 700, 700)
    heat = Heat(hot_c=200, near_limit=2)
    runner = BatchRunner(world.double, memory=host_memory(), heat=heat, outside=world.outside())
    assert len(list(runner.run(range(24)))) == 24
    assert world.slept == []
