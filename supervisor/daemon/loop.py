"""The loop: it owns all state, and waits for nothing but time and news."""

import time
from collections.abc import Callable
from typing import Final, Protocol

from msgspec import Struct

from supervisor.act.executor import Executor
from supervisor.daemon.keeper import Keeper
from supervisor.daemon.mailbox import Mailbox
from supervisor.daemon.observe import Observer
from supervisor.decide.glance import (
    calls_for_a_turn,
    is_short,
    is_worth_a_closer_look,
    memory_moved,
)
from supervisor.decide.turn import decide
from supervisor.model.action import Kill, Signal
from supervisor.model.memory import Decision, Memory, WorkerMemory
from supervisor.model.news import Asked, Exited, KernelNews, News
from supervisor.model.phase import Phase
from supervisor.model.plan import Plan
from supervisor.model.snapshot import HostSample, Snapshot
from supervisor.sense.host import glance_interval_s

# Deadlines that come closer together than this share a turn.
SHORTEST_SLEEP_S: Final = 0.001


class Turn(Struct, frozen=True):
    """One turn that is over."""

    plan: Plan
    before: Memory
    snapshot: Snapshot
    news: tuple[News, ...]
    decision: Decision
    stepped: tuple[WorkerMemory, ...]  # those that took a step in it
    looked: bool  # everything was read, not only what was due
    took_s: float = 0.0  # from the glance to the last action


class Publisher(Protocol):
    """Tells the world of what happened; nothing that it does may raise or wait."""

    def turn_is_over(self, turn: Turn) -> None:
        """Publish a turn."""
        ...

    def still_alive(self) -> None:
        """Note that the loop has gone round."""
        ...


class Parts(Struct, frozen=True):
    """What the loop works with."""

    observer: Observer
    executor: Executor
    keeper: Keeper
    mailbox: Mailbox
    publisher: Publisher
    tidy: Callable[[Memory], None]  # after each look: what is cheap and never urgent
    reap: Callable[[], object]  # before each turn: a tree that forks wildly leaves thousands of zombies
    kernel: Callable[[], tuple[KernelNews, ...]] = tuple  # what the kernel's log has said since


class Loop:
    """Sense, decide, act; see the design, section 3."""

    def __init__(self, plan: Plan, memory: Memory, parts: Parts) -> None:
        """Begin with what an earlier daemon remembered, or with nothing."""
        self.plan = plan
        self.memory = memory
        self.snapshot: Snapshot | None = None
        self._parts = parts
        self._host: HostSample | None = None
        self._look_s = 0.0
        self._wake_s: float | None = None

    async def run(self) -> None:
        """Go round until the daemon was told to end and every worker is gone."""
        while not self._round():
            await self._parts.mailbox.wait(self._sleep_s())

    def replace_plan(self, plan: Plan, by: str) -> None:
        """Put a new plan in force with the next turn; who is held and has changed gets a new chance."""
        old, self.plan = self.plan, plan
        changed = {name for name, worker in plan.workers.items() if worker != old.workers.get(name)}
        held = [
            one.name
            for one in self.memory.workers.values()
            if one.phase is Phase.HELD and one.name in changed
        ]
        if held:
            self._parts.mailbox.tell(
                Asked("reset", tuple(held), reason="its configuration has changed", by=by)
            )
        self._look_s = 0.0
        self._parts.mailbox.nudge()

    def _round(self) -> bool:
        """Glance at the host's memory, and take a turn if there is cause; return whether all is done."""
        parts = self._parts
        news, nudged = parts.mailbox.take()
        before, now_s = self._host, time.monotonic()
        host = parts.observer.glance(now_s)
        if is_worth_a_closer_look(self.plan, self.memory, host):
            host = parts.observer.look_closer(host)
        self._host = host
        look = now_s >= self._look_s
        moved = before is not None and memory_moved(before, host)
        due = self._wake_s is not None and now_s >= self._wake_s
        short = is_short(self.plan, self.memory, host)
        if news or nudged or look or moved or due or short or calls_for_a_turn(self.plan, self.memory, host):
            decision = self._turn(host, news, look=look, moved=moved, short=short)
            if decision.done:
                return True
        parts.publisher.still_alive()
        return False

    def _turn(
        self, host: HostSample, news: tuple[News, ...], *, look: bool, moved: bool, short: bool
    ) -> Decision:
        parts, plan, before = self._parts, self.plan, self.memory
        # A worker that says why it ends, or of which the kernel says it, has ended by now.
        news = (*parts.mailbox.take_reports(), *parts.kernel(), *news)
        gone = frozenset(one.worker for one in news if isinstance(one, Exited))
        parts.reap()
        due = None if look else self._due(host.read_s, moved=moved, short=short)
        snapshot = parts.observer.observe(host, before, time.time(), due, gone)
        decision = decide(plan, before, snapshot, news)
        # Before anything is done: a crash in between is found out.
        stepped = tuple(parts.keeper.keep(decision.memory))
        if any(isinstance(action, Signal | Kill) for action in decision.actions):
            parts.observer.find_children()
        parts.executor.carry_out(decision.actions)
        self.memory, self.snapshot, self._wake_s = decision.memory, snapshot, decision.wake_s
        if look:
            self._look_s = host.read_s + plan.poll_interval_s
            parts.tidy(decision.memory)
        took_s = time.monotonic() - host.read_s
        parts.publisher.turn_is_over(Turn(plan, before, snapshot, news, decision, stepped, look, took_s))
        return decision

    def _due(self, now_s: float, *, moved: bool, short: bool) -> frozenset[str]:
        """Return the workers whose memory is to be read before the next look: all, if one may have to go."""
        return frozenset(
            name
            for name, worker in self.memory.workers.items()
            if (life := worker.life) is not None
            and (
                short
                or (moved and life.plan.memory.cap_bytes is not None)
                or (life.sample_s is not None and life.sample_s <= now_s)
            )
        )

    def _sleep_s(self) -> float:
        host, floor_bytes = self._host, self.plan.host.critical_available_bytes
        glance_s = 0.0 if host is None else host.read_s + glance_interval_s(host, floor_bytes)
        until_s = min(self._look_s, glance_s, self._wake_s if self._wake_s is not None else self._look_s)
        return max(until_s - time.monotonic(), SHORTEST_SLEEP_S)
