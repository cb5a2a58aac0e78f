"""Carry out what was decided: decides nothing, waits for nothing."""

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from supervisor.act.herald import Herald
from supervisor.act.launcher import Orders, Tell
from supervisor.act.prober import Prober
from supervisor.act.reckoner import Reckoner
from supervisor.act.refusal import because
from supervisor.model.action import Action, Advise, Alert, Forget, Kill, Launch, Notice, Probe, Reckon, Signal
from supervisor.model.memory import Life
from supervisor.model.news import Exited, LaunchFailed, Probed
from supervisor.model.snapshot import Identity

Deed = Launch | Signal | Kill | Forget | Probe | Advise


class Askers(Struct, frozen=True):
    """Those that speak with others beside the loop; what the first two are answered is news."""

    prober: Prober
    reckoner: Reckoner
    herald: Herald


class Executor:
    """Dispatches actions to the launcher, the prober and the people who read notices."""

    def __init__(
        self,
        launcher: Orders,
        askers: Askers,
        notice: Callable[[Notice], None],
        tell: Tell,
        *,
        dry_run: bool = False,
    ) -> None:
        """With `dry_run`, only what touches no worker is carried out: notices, reckonings and alerts."""
        self._launcher = launcher
        self._prober = askers.prober
        self._reckoner = askers.reckoner
        self._herald = askers.herald
        self._notice = notice
        self._tell = tell
        self._dry_run = dry_run
        self._lives: dict[str, Launch] = {}  # by run: how it was launched, for what is asked of it

    async def adopt(self, lives: Mapping[str, Life]) -> Mapping[str, Identity]:
        """Have the launcher find earlier lives, before the first turn; see `Launcher.adopt`."""
        if self._dry_run:
            return {}
        for worker, life in lives.items():
            gpus = None if life.plan.gpus.kind == "any" else life.gpus
            self._lives[life.run] = Launch(worker, life.run, life.plan, life.settings, gpus, "adopted")
        return await self._launcher.adopt(lives)

    def carry_out(self, actions: Sequence[Action]) -> None:
        """Carry out every action, in order; what the operating system refuses is told, never raised."""
        for action in actions:
            if isinstance(action, Notice):
                self._notice(action)
            elif isinstance(action, Reckon):
                self._reckoner.ask(action)
            elif isinstance(action, Alert):
                self._herald.tell(action)
            elif not self._dry_run:
                self._try(action)
            else:
                self._pretend(action)

    def _pretend(self, action: Deed) -> None:
        """Say what would be done; nothing was launched, so whatever would end it has ended it."""
        kind = type(action).__name__.lower()
        if not isinstance(action, Forget | Probe | Advise):
            text = f"{action.reason} (dry run: nothing is touched)"
            self._notice(Notice("info", f"would {kind}", text, worker=action.worker))
        if isinstance(action, Signal | Kill):
            self._tell(Exited(action.worker, action.run))

    def children(self) -> frozenset[int]:
        """Return the pids of commands that are being waited for, which nobody else may reap."""
        return self._prober.children() | self._herald.children()

    def close(self) -> None:
        """Cancel all probes and reckonings, and tell no more of alerts; workers run on."""
        self._prober.close()
        self._reckoner.close()
        self._herald.close()

    def _try(self, action: Deed) -> None:
        try:
            self._do(action)
        except OSError as error:
            self._failed(action, error)

    def _do(self, action: Deed) -> None:
        if isinstance(action, Launch):
            self._lives[action.run] = action
            self._launcher.launch(action)
        elif isinstance(action, Signal):
            self._launcher.signal(action)
        elif isinstance(action, Kill):
            self._launcher.kill(action)
        elif isinstance(action, Forget):
            self._prober.forget(action.run)
            self._lives.pop(action.run, None)
            self._launcher.forget(action)
        elif isinstance(action, Advise):
            self._launcher.advise(action)
        elif action.run in self._lives:
            self._prober.ask(action, self._lives[action.run])
        else:
            answer = Probed(action.worker, action.run, action.purpose, good=False, detail="its run is over")
            self._tell(answer)

    def _failed(self, action: Deed, error: OSError) -> None:
        kind = type(action).__name__.lower()
        refusal = because(f"{kind} {action.worker}", error)
        self._notice(
            Notice("error", "action failed", refusal.why, worker=action.worker, fields={"action": kind})
        )
        if isinstance(action, Launch):
            self._tell(LaunchFailed(action.worker, action.run, refusal.why, refusal.hopeless))
