"""Questions to workers under way: each is a task whose answer is news."""

import asyncio

from supervisor.act.launcher import Commands, Tell
from supervisor.model.action import Launch, Probe
from supervisor.model.news import Probed, Purpose
from supervisor.model.plan import CommandTarget, LlamaTarget
from supervisor.sense.llama_probe import LlamaProbe, Seen
from supervisor.sense.probes import probe


class Prober:
    """Asks workers whether they are ready, healthy or idle. Used in the thread of its event loop only."""

    def __init__(self, commands: Commands, tell: Tell, loop: asyncio.AbstractEventLoop) -> None:
        """Run drain commands through `commands`, tell every answer."""
        self._commands = commands
        self._tell = tell
        self._loop = loop
        self._llama = LlamaProbe()
        self._tasks: dict[tuple[str, Purpose], asyncio.Task[None]] = {}

    def ask(self, order: Probe, life: Launch) -> None:
        """Begin one probe of a life; one of the same purpose that is still under way ends unanswered."""
        key = (order.run, order.purpose)
        former = self._tasks.pop(key, None)
        if former is not None:
            former.cancel()
        task = self._loop.create_task(self._answer(order, life))
        self._tasks[key] = task
        task.add_done_callback(lambda ended: self._done(key, ended))

    def forget(self, run: str) -> None:
        """Cancel all probes of a life."""
        for key in tuple(self._tasks):
            if key[0] == run:
                self._tasks.pop(key).cancel()

    def children(self) -> frozenset[int]:
        """Return the pids of commands that are being waited for."""
        return self._commands.children()

    def close(self) -> None:
        """Cancel all probes."""
        while self._tasks:
            self._tasks.popitem()[1].cancel()
        self._llama.close()

    async def _answer(self, order: Probe, life: Launch) -> None:
        target = order.target  # the configuration has filled its braces
        if isinstance(target, CommandTarget):
            seen = Seen(*await self._commands.run(life, target.command, order.timeout_s))
        elif isinstance(target, LlamaTarget):
            seen = await self._llama.ask(target.url, order.timeout_s, order.purpose)
        else:
            seen = Seen(*await probe(target, order.timeout_s))
        self._tell(
            Probed(order.worker, order.run, order.purpose, seen.good, seen.detail, serving=seen.serving)
        )

    def _done(self, key: tuple[str, Purpose], ended: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is ended:
            del self._tasks[key]
        if not ended.cancelled() and (error := ended.exception()) is not None:
            # A programming error: it ends the daemon where its loop is told to let it.
            self._loop.call_exception_handler(
                {"message": "a probe failed", "exception": error, "task": ended}
            )
