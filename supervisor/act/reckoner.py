"""What a llama.cpp server will need, reckoned in a thread before it is started: the answer is news."""

import asyncio
import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from supervisor.act.environment_file import read_environment_file
from supervisor.act.launcher import Tell
from supervisor.act.refusal import CannotLaunchError
from supervisor.llama.choices import cautious, choices
from supervisor.llama.fit import need
from supervisor.llama.gguf import GgufError
from supervisor.llama.model import Model, file_bytes, read_model
from supervisor.llama.rewrite import rewrite
from supervisor.llama.rungs import SHORTAGES, Shortage, held_bytes, slot_ctx, smaller
from supervisor.llama.server import Server, read_server
from supervisor.llama.settings import Settings
from supervisor.model.action import Reckon
from supervisor.model.fit import Fit, is_auto
from supervisor.model.news import Reckoned
from supervisor.model.plan import Setting
from supervisor.model.rungs import MadeRung, Rungs
from supervisor.model.template import fill

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
        names, server_with = _to_choose(order), _reader(order)
        server = server_with(dict.fromkeys(names, 1))  # its files are the same whatever is chosen
        model = read(server.model)
        mmproj_bytes = _size_of(server.mmproj)
        values = choices(model.shape, names, gpus=len(order.shares))
        fits = tuple(
            _fit(model, _with_mmproj(server_with(chosen), mmproj_bytes), chosen) for chosen in values
        )
        made = (
            ()
            if names or order.plan.ladder or not order.plan.makes_ladder
            else _rungs(order, model, _with_mmproj(server, mmproj_bytes))
        )
    except (ValueError, CannotLaunchError) as error:  # GgufError, NotReckonedError, TemplateError among them
        return _unknown(order, str(error))
    except OSError as error:
        return _unknown(order, f"cannot read {error.filename}: {error.strerror}")
    return Reckoned(order.worker, order.asked_s, fits, rungs=Rungs(**dict(made)))


def _to_choose(order: Reckon) -> tuple[str, ...]:
    return tuple(name for name, value in order.settings.items() if is_auto(name, value))


def _unknown(order: Reckon, why: str) -> Reckoned:
    names = _to_choose(order)
    fits = cautious(names, why, gpus=len(order.shares)) if names else ()
    return Reckoned(order.worker, order.asked_s, fits, why)


def _reader(order: Reckon) -> Callable[[Mapping[str, Setting]], Server]:
    """Return what tells how the server is started with given values for what is chosen."""
    plan = order.plan
    file = plan.environment_file
    secrets = {} if file is None else read_environment_file(Path(file))

    def read(chosen: Mapping[str, Setting]) -> Server:
        settings = {**order.settings, **chosen}
        command = [fill(word, settings, plan.replica) for word in plan.command]
        written = {name: fill(value, settings, plan.replica) for name, value in plan.environment.items()}
        return read_server(command, written | secrets, Path(plan.directory or os.curdir), order.shares)

    return read


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


def _rungs(order: Reckon, model: Model, server: Server) -> Iterator[tuple[str, MadeRung]]:
    """Yield what may follow these settings, by what runs out (`Rungs`)."""
    settings = server.settings
    keep = server.embeds or settings.mmproj_bytes > 0
    for shortage in SHORTAGES:
        new = smaller(model, settings, shortage, keep_ubatch=keep)
        if new is not None and (made := _rung(order, model, server, new, shortage)) is not None:
            yield shortage, made
    if settings.n_gpu_layers:
        new = replace(settings, n_gpu_layers=0, shares=())
        if (made := _rung(order, model, server, new, "device")) is not None:
            yield "cpu", replace(made, on_cpu=True)


def _rung(order: Reckon, model: Model, server: Server, new: Settings, shortage: Shortage) -> MadeRung | None:
    """Return a command with new settings; None where it would not, as it is read, come to just these."""
    old = server.settings
    found = rewrite(order.plan.command, order.settings, model, old, new)
    if found is None:
        return None
    plan = replace(order.plan, command=found.command)
    read = _reader(replace(order, plan=plan, settings=found.settings))({})
    if replace(read.settings, mmproj_bytes=old.mmproj_bytes) != new:
        return None
    return MadeRung(
        found.command,
        found.settings,
        found.was,
        held_bytes(need(model, old), shortage),
        held_bytes(need(model, new), shortage),
        (slot_ctx(model, old), slot_ctx(model, new)),
    )
