"""The seam between deciding and an operating system that runs workers."""

from collections.abc import Callable, Mapping
from typing import Protocol

from supervisor.model.action import Forget, Kill, Launch, Signal
from supervisor.model.memory import Life
from supervisor.model.news import News
from supervisor.model.snapshot import Identity

Tell = Callable[[News], None]


class Launcher(Protocol):
    """Starts, signals and ends workers. Nothing here waits; outcomes are told as news.

    Every worker of a launcher outlives the daemon, and `adopt` finds it again.
    """

    kind: str

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

    def adopt(self, lives: Mapping[str, Life]) -> Mapping[str, Identity]:
        """Find the lives that an earlier daemon left running, by worker name.

        Called once, before the first turn. A life that is found is returned with its identity and
        from then on watched like one that was launched; `Exited` is told for one whose main process
        is gone, `LaunchFailed` for one that was never started. Whatever cannot be proved to be ours
        is left alone.
        """
        ...

    def close(self) -> None:
        """Let go of everything; workers run on."""
        ...
