"""The same call within an event loop: awaited and cancelled, or made in a thread."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from supervisor.guard.calls import Outcome, Overdue, Raised, Running, Worker, let_go, matched

T = TypeVar("T")
R = TypeVar("R")


async def call_async(
    function: Callable[[list[T]], Awaitable[Iterable[R]]], items: list[T], limit_s: float
) -> Outcome[R]:
    """Await `function` for `limit_s`, then cancel it."""
    outcome = await _call_async(function, items, limit_s)
    if isinstance(outcome, Raised):
        let_go(outcome.error)
    return outcome


async def _call_async(
    function: Callable[[list[T]], Awaitable[Iterable[R]]], items: list[T], limit_s: float
) -> Outcome[R]:
    timer = asyncio.timeout(limit_s)
    try:
        async with timer:
            return matched(await function(list(items)), len(items))
    except Exception as error:  # noqa: BLE001 - of whatever kind, it is judged outside of the `except`
        if timer.expired() and isinstance(error, TimeoutError):
            return Overdue(limit_s, stuck=False)
        return Raised(error)


async def call_in_thread(worker: Worker[T, R], items: list[T], limit_s: float | None) -> Outcome[R]:
    """Call the worker's function in a thread, and wait for it as `Worker.call` does; None waits for ever."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def told() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any longer
            loop.call_soon_threadsafe(ended.set)

    running = worker.begin(items, told)
    if not isinstance(running, Running):
        return running
    if await _within(ended, limit_s):
        return running.outcome()
    if await _within(ended, limit_s):
        return Overdue(limit_s, stuck=False)
    worker.give_up(running)
    return Overdue(limit_s, stuck=True)


async def _within(ended: asyncio.Event, limit_s: float | None) -> bool:
    try:
        async with asyncio.timeout(limit_s):
            await ended.wait()
    except TimeoutError:
        return False
    return True


async def pause(pause_s: float) -> None:
    """Wait, where there is something to wait for."""
    if pause_s:
        await asyncio.sleep(pause_s)


async def take(source: Iterator[T] | AsyncIterator[T], size: int) -> tuple[list[Any], bool, Exception | None]:
    """Take up to `size` items; tell whether these were the last, and the error that ended them."""
    batch: list[T] = []
    try:
        while len(batch) < size:
            batch.append(await anext(source) if isinstance(source, AsyncIterator) else next(source))
    except (StopAsyncIteration, StopIteration):
        return batch, True, None
    except Exception as error:  # noqa: BLE001 - the caller's own, raised again when the batch is done
        return batch, True, error
    return batch, False, None
