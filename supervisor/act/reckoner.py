"""What a llama.cpp server will need, reckoned in a thread before it is started: the answer is news."""

import asyncio
import contextlib
import os
import stat
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from supervisor.act.launcher import Tell
from supervisor.act.made_rungs import made_rungs, server_reader
from supervisor.act.refusal import CannotLaunchError
from supervisor.llama.choices import cautious, choices
from supervisor.llama.fit import need
from supervisor.llama.gguf import GgufError
from supervisor.llama.model import Model, file_bytes, read_model
from supervisor.llama.server import Server
from supervisor.model.action import Reckon
from supervisor.model.fit import Fit, is_auto
from supervisor.model.news import Reckoned
from supervisor.model.rungs import Rungs

# A header of today is read in milliseconds, the worst that a file can hold in some seconds: no start waits
# for that, nor for a file system that does not answer.
WITHIN_S: Final = 3.0
_AT_ONCE: Final = 2  # threads: what hangs in one of them holds up nobody but the next
_KEPT: Final = 64  # models

Version = tuple[Path, int, int]  # size, and when it was last written, in ns


class Reckoner:
    """Answers each `Reckon` within `WITHIN_S`. Used in the thread of its event loop only."""

    def __init__(self, tell: Tell, loop: asyncio.AbstractEventLoop, within_s: float = WITHIN_S) -> None:
        """Tell every answer."""
        self._tell = tell
        self._loop = loop
        self._within_s = within_s
        self._models = _Models()
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
        try:
            async with asyncio.timeout(self._within_s):
                answer = await self._reckon(order)
        except TimeoutError:
            answer = _unknown(order, f"its model was not read within {self._within_s:g} s")
        self._tell(answer)

    async def _reckon(self, order: Reckon) -> Reckoned:
        await self._turns.acquire()
        done: asyncio.Future[Reckoned] = self._loop.create_future()

        def work() -> None:
            try:
                answer = reckoned(order, self._models.read)
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
            return _unknown(order, f"cannot read its model: {error}")
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


class _Models:
    """Headers that were read, by path, size and time of the last change."""

    def __init__(self) -> None:
        self._known: dict[Version, Model] = {}

    def read(self, path: Path) -> Model:
        """Return a model; raises GgufError and OSError."""
        found = _regular(path)
        version = (path, found.st_size, found.st_mtime_ns)
        model = self._known.get(version)
        if model is None:
            model = read_model(path)
            while len(self._known) >= _KEPT:
                self._known.pop(next(iter(self._known)), None)
            self._known[version] = model
        return model


def _regular(path: Path) -> os.stat_result:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise GgufError(path, "it is no regular file")  # a FIFO would be waited for
    return found


def _size_of(mmproj: Path | None) -> int:
    if mmproj is None:
        return 0
    _regular(mmproj)
    return file_bytes(mmproj)


def reckoned(order: Reckon, read: Callable[[Path], Model]) -> Reckoned:
    """Reckon what a server needs, for each choice that there is; may take seconds."""
    try:
        names, server_with = _to_choose(order), server_reader(order)
        server = server_with(dict.fromkeys(names, 1))  # its files are the same whatever is chosen
        model = read(server.model)
        mmproj_bytes = _size_of(server.mmproj)
        values = choices(model.shape, names, gpus=len(order.shares))
        fits = tuple(
            _fit(model, _with_mmproj(server_with(chosen), mmproj_bytes), chosen) for chosen in values
        )
        is_made = not names and not order.plan.ladder and order.plan.makes_ladder
        rungs = made_rungs(order, model, _with_mmproj(server, mmproj_bytes)) if is_made else Rungs()
    except (ValueError, CannotLaunchError) as error:  # GgufError, NotReckonedError, TemplateError among them
        return _unknown(order, str(error))
    except OSError as error:
        return _unknown(order, f"cannot read {error.filename}: {error.strerror}")
    return Reckoned(order.worker, order.asked_s, fits, rungs=rungs)


def _to_choose(order: Reckon) -> tuple[str, ...]:
    return tuple(name for name, value in order.settings.items() if is_auto(name, value))


def _unknown(order: Reckon, why: str) -> Reckoned:
    names = _to_choose(order)
    fits = cautious(names, why, gpus=len(order.shares)) if names else ()
    return Reckoned(order.worker, order.asked_s, fits, why)


def _with_mmproj(server: Server, size: int) -> Server:
    return replace(server, settings=replace(server.settings, mmproj_bytes=size))


def _fit(model: Model, server: Server, chosen: Mapping[str, int]) -> Fit:
    found = need(model, server.settings)
    host = found.host
    return Fit(
        chosen,
        memory_bytes=host.own_bytes - host.prompt_cache_bytes,
        mapped_bytes=host.total_bytes - host.own_bytes,
        prompt_cache_bytes=host.prompt_cache_bytes,
        is_cache_written=server.is_cache_ram_written,
        vram_bytes=tuple(device.total_bytes for device in found.devices),
    )
