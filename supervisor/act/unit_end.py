"""What a unit's last state says: how its life ended, or why there was none."""

from collections.abc import Mapping
from typing import Final

from supervisor.act.refusal import CannotLaunchError
from supervisor.model.news import Exited
from supervisor.systemd.bus import UnitState

CLD_EXITED: Final = 1  # waitid(2), as ExecMainCode= has them
OOM_KILL: Final = "oom-kill"
# What the exit status or the signal says already.
PLAIN_RESULTS: Final = frozenset({"success", "exit-code", "signal", "core-dump", OOM_KILL})
FIRST_OF_SYSTEMD: Final = 200
# Before it runs the program, systemd ends the child with a status of its own (systemd.exec(5)).
REFUSALS: Final[Mapping[int, str]] = {
    200: "its directory cannot be entered",
    203: "there is no such program, or it cannot be executed",
    209: "its output cannot be set up",
    210: "its root directory cannot be entered",
    214: "its scheduling cannot be set",
    216: "there is no such group",
    217: "there is no such user",
    219: "its cgroup cannot be set up",
    226: "its mount namespace cannot be set up",
}
HOPELESS: Final = frozenset({200, 203, 216, 217})


def end_of(
    worker: str, run: str, state: UnitState, counters: Mapping[str, int], *, signalled: bool
) -> Exited:
    """Put the end of a life into news. `signalled` says whether the supervisor has sent any signal to it."""
    if not state.code:
        return Exited(worker, run, counters=counters)
    code = state.status if state.code == CLD_EXITED else None
    signum = None if state.code == CLD_EXITED else state.status
    # systemd has missed a second kill soon after a first (systemd#43439): the kernel's count is believed too.
    killed = state.result == OOM_KILL or (signum is not None and counters.get("oom_kill", 0) > 0)
    return Exited(worker, run, code, signum, killed, _detail(state, counters, killed, signalled), counters)


def _detail(state: UnitState, counters: Mapping[str, int], killed: bool, signalled: bool) -> str:  # noqa: FBT001
    if killed:
        told = ", ".join(f"{name} {count}" for name, count in counters.items() if count)
        return f"memory.events: {told}" if told else ""
    if state.result not in PLAIN_RESULTS:
        return f"systemd: {state.result}"
    if state.code != CLD_EXITED and not signalled:
        return "not by the supervisor: by hand, by another program or by its own fault"
    return ""


def refusal_of(unit: str, program: str, state: UnitState, result: str) -> CannotLaunchError:
    """Say why systemd has not started a unit whose start ended with `result`."""
    status = state.status if state.code == CLD_EXITED else 0
    if status in REFUSALS:
        hopeless = status in HOPELESS
        return CannotLaunchError(f"cannot run {program}: {REFUSALS[status]}", hopeless=hopeless)
    if status >= FIRST_OF_SYSTEMD:
        why = f"systemd ended it with status {status} before it ran"
    elif result == "canceled":
        why = f"the start of {unit} was canceled by a stop"
    else:
        why = f"the start of {unit} ended with {result}, {state.result}"
    return CannotLaunchError(f"cannot run {program}: {why}; see journalctl -u {unit}", hopeless=False)
