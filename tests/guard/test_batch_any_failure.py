"""Whatever fails: every item has its result or its error, once and in order, and there is an end."""

import asyncio
import gc
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeGuard

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guard.fakes import host_memory
from supervisor.guard.batch import BatchRunner
from supervisor.guard.calls import Failed
from supervisor.guard.watch import Outside

OOM = "CUDA out of memory. Tried to allocate 2.00 GiB."


class Trouble(NamedTuple):
    """What goes wrong, and for which items or sizes."""

    room: int
    """No batch with more items fits."""
    too_large: frozenset[int]
    """Items that fit in no batch."""
    bad: frozenset[int]
    """Items that raise an error."""
    miscounted: frozenset[int]
    """Items that a result is missing for."""
    flaky: frozenset[int]
    """Calls, by their number, that run out of memory, whatever is in them."""
    slow: frozenset[int]
    """Calls that take an hour."""


class Machine:
    """A function of batches with trouble, on a clock that only it and the waits move."""

    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble
        self.now_s = 0.0
        self.calls: list[int] = []
        self.passed: Counter[int] = Counter()
        self.too_much: int | None = None
        self.broken: list[str] = []
        self._lock = threading.Lock()

    def sleep(self, pause_s: float) -> None:
        with self._lock:
            self.now_s += pause_s

    def clock(self) -> float:
        return self.now_s

    def __call__(self, items: list[int]) -> list[int]:
        with self._lock:
            return self._answer(items)

    def _answer(self, items: list[int]) -> list[int]:
        number, mine = len(self.calls), set(items)
        self.calls.append(len(items))
        self.now_s += 3600.0 if number in self.trouble.slow else 0.01
        if self.too_much is not None and len(items) >= max(2, self.too_much):
            self.broken.append(f"{len(items)} at once, after {self.too_much} had run out of memory")
        if len(items) > self.trouble.room or mine & self.trouble.too_large or number in self.trouble.flaky:
            self.too_much = min(len(items), self.too_much or len(items))
            raise RuntimeError(OOM)
        if bad := mine & self.trouble.bad:
            raise KeyError(min(bad))
        self.passed.update(items)
        return [item * 10 for item in items if item not in self.trouble.miscounted]


class Case(NamedTuple):
    items: int
    batch_size: int
    fallback: list[int]
    max_retries: int
    trouble: Trouble


def some(largest: int, most: int) -> st.SearchStrategy[frozenset[int]]:
    return st.frozensets(st.integers(0, largest), max_size=most)


CASES = st.builds(
    Case,
    items=st.integers(0, 40),
    batch_size=st.integers(1, 16),
    fallback=st.lists(st.integers(1, 16), max_size=4),
    max_retries=st.integers(0, 3),
    trouble=st.builds(
        Trouble,
        room=st.integers(0, 16),
        too_large=some(40, 3),
        bad=some(40, 4),
        miscounted=some(40, 2),
        flaky=some(40, 4),
        slow=some(40, 3),
    ),
)
Drive = Callable[[BatchRunner[int, int], Machine, int], list[object]]


def plainly(runner: BatchRunner[int, int], _machine: Machine, count: int) -> list[object]:
    return list(runner.run(range(count)))


def in_a_loop(runner: BatchRunner[int, int], _machine: Machine, count: int) -> list[object]:
    async def gather() -> list[object]:
        return [value async for value in runner.arun(range(count))]

    return asyncio.run(gather())


def runner_of(
    case: Case, machine: Machine, *, timeout_s: float | None, delay_s: float
) -> BatchRunner[int, int]:
    outside = Outside(clock=machine.clock, sleep=machine.sleep, environment={})
    return BatchRunner(
        machine,
        case.batch_size,
        1,
        case.fallback,
        max_retries=case.max_retries,
        fallback_delay_s=delay_s,
        timeout_s=timeout_s,
        memory=host_memory(),
        outside=outside,
    )


def failed(value: object) -> TypeGuard[Failed[int]]:
    return isinstance(value, Failed)


def check(case: Case, machine: Machine, values: list[object]) -> None:
    trouble = case.trouble
    assert len(values) == case.items
    for item, value in enumerate(values):
        if failed(value):
            assert value.item == item
        else:
            assert value == item * 10
            assert machine.passed[item] == 1
        hopeless = trouble.room == 0 or item in trouble.too_large | trouble.bad | trouble.miscounted
        if hopeless:
            assert isinstance(value, Failed)
        elif not trouble.miscounted and len(trouble.flaky) <= case.max_retries:
            assert value == item * 10
    assert machine.broken == []
    assert max(machine.calls, default=0) <= case.batch_size
    # 16, 8, 4, 2, 1 for either reason, and the retries of the one: no item is in more calls than that
    assert len(machine.calls) <= case.items * (5 + 5 + case.max_retries)


@pytest.fixture(autouse=True, scope="module")
def quick_collections() -> Iterator[None]:
    """Clearing up after an out-of-memory collects garbage: 50 ms each in a process as large as this one."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CASES)
def test_every_item_is_delivered_once_and_in_order(case: Case) -> None:
    machine = Machine(case.trouble)
    runner = runner_of(case, machine, timeout_s=None, delay_s=1.0)
    check(case, machine, plainly(runner, machine, case.items))
    stats = runner.stats()
    assert stats["items"] == case.items
    assert stats["calls"] == len(machine.calls)


@pytest.mark.parametrize("drive", [plainly, in_a_loop])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=CASES)
def test_so_it_is_where_the_function_runs_in_a_thread(drive: Drive, case: Case) -> None:
    machine = Machine(case.trouble)
    check(case, machine, drive(runner_of(case, machine, timeout_s=30.0, delay_s=0.0), machine, case.items))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CASES)
def test_so_it_is_with_an_async_function(case: Case) -> None:
    machine = Machine(case.trouble)

    async def function(items: list[int]) -> list[int]:
        await asyncio.sleep(0)
        return machine(items)

    outside = Outside(clock=machine.clock, sleep=machine.sleep, environment={})
    runner: BatchRunner[int, int] = BatchRunner(
        function,
        case.batch_size,
        fallback=case.fallback,
        max_retries=case.max_retries,
        fallback_delay_s=0,
        memory=host_memory(),
        outside=outside,
    )
    check(case, machine, in_a_loop(runner, machine, case.items))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CASES)
def test_two_threads_on_one_runner_have_each_their_own_items(case: Case) -> None:
    machine = Machine(case.trouble._replace(miscounted=frozenset()))
    runner = runner_of(case, machine, timeout_s=None, delay_s=0.0)
    found: dict[int, list[object]] = {}

    def work(first: int) -> None:
        found[first] = list(runner.run(range(first, first + case.items)))

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for first, values in found.items():
        assert [v.item if failed(v) else v for v in values] == [
            item if failed(value) else item * 10 for item, value in enumerate(values, first)
        ]
    assert sorted(found) == [0, 1000]
    assert all(times == 1 for times in machine.passed.values())
    assert runner.stats()["items"] == 2 * case.items
