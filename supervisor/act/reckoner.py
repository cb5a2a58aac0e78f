"""What a llama.cpp server will need, reckoned in a thread before it is started: the answer is news."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from supervisor.act.launcher import Tell
from supervisor.model.action import Reckon
from supervisor.model.news import Reckoned

if TYPE_CHECKING:
    from supervisor.act.model_needs import Models

# A header of today is read in milliseconds, the worst that a file can hold in some seconds: no start waits
# for that, nor for a file system that does not answer.
WITHIN_S: Final = 3.0
_AT_ONCE: Final = 2  # threads: what hangs in one of them holds up nobody but the next


class Reckoner:
    """Answers each `Reckon` within `WITHIN_S`. Used in the thread of its event loop only."""

    def __init__(self, tell: Tell, loop: asyncio.AbstractEventLoop, within_s: float = WITHIN_S) -> None:
        """Tell every answer."""
        self._tell = tell
        self._loop = loop
        self._within_s = within_s
        self._models: Models | None = None
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by worker: only its last question counts

    def ask(self, order: Reckon) -> None:
        """Begin to reckon."""
        if (former := self._tasks.pop(order.worker, None)) is not None:
            former.cancel()
        task = self._loop.create_task(self._answer(order))
        self._tasks[order.worker] = task
        task.add_done_callback(lambda ended: self._done(order.worker, ended))

    def close(self) -> None:
        """Ask nothing any more; a thread that hangs ends with the process."""
        while self._tasks:
            self._tasks.popitem()[1].cancel()

    async def _answer(self, order: Reckon) -> None:
        # Imported with the first question: who runs no llama.cpp server is spared 0.5 MiB.
        from supervisor.act.model_needs import unknown  # noqa: PLC0415

        try:
            async with asyncio.timeout(self._within_s):
                answer = await self._reckon(order)
        except TimeoutError:
            answer = unknown(order, f"its model was not read within {self._within_s:g} s")
        self._tell(answer)

    async def _reckon(self, order: Reckon) -> Reckoned:
        from supervisor.act.model_needs import Models, reckoned, unknown  # noqa: PLC0415

        models = self._models = self._models or Models()
        await self._turns.acquire()
        done: asyncio.Future[Reckoned] = self._loop.create_future()

        def work() -> None:
            try:
                answer = reckoned(order, models.read)
            except Exception as error:  # noqa: BLE001 - a fault of ours, which the loop raises
                self._from_thread(_fail, done, error)
            else:
                self._from_thread(_settle, done, answer)
            finally:
                self._from_thread(self._turns.release)

        try:
            threading.Thread(target=work, name=f"reckon {order.worker}", daemon=True).start()
        except RuntimeError as error:  # no thread can be had
            self._turns.release()
            return unknown(order, f"cannot read its model: {error}")
        return await done

    def _from_thread(self, call: Callable[..., object], *values: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(call, *values)

    def _done(self, worker: str, ended: asyncio.Task[None]) -> None:
        if self._tasks.get(worker) is ended:
            del self._tasks[worker]
        if not ended.cancelled() and (error := ended.exception()) is not None:
            # A programming error: it ends the daemon where its loop is told to let it.
            context = {"message": "a reckoning failed", "exception": error, "task": ended}
            self._loop.call_exception_handler(context)


def _settle(done: "asyncio.Future[Reckoned]", answer: Reckoned) -> None:
    if not done.done():
        done.set_result(answer)


def _fail(done: "asyncio.Future[Reckoned]", error: Exception) -> None:
    if not done.done():
        done.set_exception(error)
