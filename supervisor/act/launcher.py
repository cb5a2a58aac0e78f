"""The seam between deciding and an operating system that runs workers."""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from supervisor.act.output import Output
from supervisor.model.action import Advise, Forget, Kill, Launch, Signal
from supervisor.model.memory import Life
from supervisor.model.news import News
from supervisor.model.plan import Plan
from supervisor.model.snapshot import Identity
from supervisor.sense.trees import Trees

Tell = Callable[[News], None]


class Orders(Protocol):
    """What is decided on workers is carried out here. Nothing of it waits; outcomes are told as news.

    Every worker outlives the daemon, and `adopt` finds it again.
    """

    def launch(self, order: Launch) -> None:
        """Start one life; tells `Launched` or `LaunchFailed`, and in the end `Exited`."""
        ...

    def signal(self, order: Signal) -> None:
        """Send one signal to the main process; without effect once it is gone."""
        ...

    def kill(self, order: Kill) -> None:
        """Send SIGKILL to the whole tree; without effect on what is gone."""
        ...

    def forget(self, order: Forget) -> None:
        """Let go of what was kept for a life that is over."""
        ...

    def advise(self, order: Advise) -> None:
        """Tell a worker's guard how things stand, now or after a later look; without effect where none is."""
        ...

    async def adopt(self, lives: Mapping[str, Life]) -> Mapping[str, Identity]:
        """Find the lives that an earlier daemon left running, by worker name.

        Called once, before the first turn. A life that is found is returned with its identity and
        from then on watched like one that was launched; `Exited` is told for one whose main process
        is gone, `LaunchFailed` for one that was never started. Whatever cannot be proved to be ours
        is left alone.
        """
        ...


class Commands(Protocol):
    """Runs commands that say whether a worker is idle: as its user, in its environment."""

    async def run(self, order: Launch, command: tuple[str, ...], timeout_s: float) -> tuple[bool, str]:
        """Return whether the command exited with 0 in time, and what it did instead.

        It is killed with all that it has started where it is late, and where nobody waits any longer.
        What it prints is a part of what the worker prints.
        """
        ...

    def children(self) -> frozenset[int]:
        """Return the pids of our children among them, which nobody else may wait for."""
        ...


class Launcher(Orders, Protocol):
    """All that starts, signals and ends workers, and what can be seen of them.

    What is async here is called before the first turn or beside the loop, never within a turn.
    """

    @property
    def kind(self) -> str:
        """Name it, as the configuration does."""
        ...

    @property
    def trees(self) -> Trees:
        """Show the processes and the memory of its workers."""
        ...

    @property
    def output(self) -> Output:
        """Show what its workers print."""
        ...

    @property
    def commands(self) -> Commands:
        """Run commands for its workers."""
        ...

    async def open(self, plan: Plan) -> None:
        """Make ready what all workers need, before anything is asked for. Raises OSError in words."""
        ...

    def stirred(self) -> frozenset[str]:
        """Return the workers that have met a limit of the kernel's since this was last asked."""
        ...

    async def end_strays(self, known: Collection[str]) -> int:
        """End what is provably ours and belongs to no life, `known` being the workers that are wanted.

        Called once, after `adopt`; returns how many processes or units were ended. Raises OSError.
        """
        ...

    async def is_restarting(self) -> bool:
        """Tell whether the daemon is ending only to be started again."""
        ...

    def tidy(self, plan: Plan) -> None:
        """Do what is cheap and never urgent; called after each look."""
        ...

    def reap(self, protected: Collection[int]) -> None:
        """Reap ended orphans of workers where they are ours; others wait for the `protected` children."""
        ...

    def close(self) -> None:
        """Let go of everything; workers run on."""
        ...
