import pytest

from supervisor.act.unit_end import end_of, refusal_of
from supervisor.model.news import Exited
from supervisor.systemd.bus import UnitState

EXITED, KILLED, DUMPED = 1, 2, 3  # si_code of waitid(2)
SEE = "; see journalctl -u u.service"
BY_OTHERS = "not by the supervisor: by hand, by another program or by its own fault"


def state(code: int, status: int, result: str) -> UnitState:
    return UnitState(active="failed", sub="failed", result=result, code=code, status=status)


@pytest.mark.parametrize(
    ("last", "signalled", "news"),
    [
        (state(EXITED, 0, "success"), False, Exited("chat", "r", code=0)),
        (state(EXITED, 3, "exit-code"), False, Exited("chat", "r", code=3)),
        (state(KILLED, 15, "success"), True, Exited("chat", "r", signal=15)),
        (state(KILLED, 15, "success"), False, Exited("chat", "r", signal=15, detail=BY_OTHERS)),
        (state(DUMPED, 11, "core-dump"), False, Exited("chat", "r", signal=11, detail=BY_OTHERS)),
        (state(KILLED, 9, "timeout"), True, Exited("chat", "r", signal=9, detail="systemd: timeout")),
        (UnitState(), False, Exited("chat", "r")),
    ],
)
def test_the_end_of_a_life_is_told_as_systemd_saw_it(last: UnitState, signalled: bool, news: Exited) -> None:  # noqa: FBT001
    assert end_of("chat", "r", last, {}, signalled=signalled) == news


def test_a_kill_by_the_kernel_is_told_with_the_counters_of_the_cgroup() -> None:
    counters = {"low": 0, "high": 7, "max": 31, "oom": 1, "oom_kill": 2}
    news = end_of("chat", "r", state(KILLED, 9, "oom-kill"), counters, signalled=False)
    assert news == Exited(
        "chat",
        "r",
        signal=9,
        oom_kill=True,
        detail="memory.events: high 7, max 31, oom 1, oom_kill 2",
        counters=counters,
    )


def test_a_kill_that_systemd_missed_is_told_by_the_counters() -> None:
    news = end_of("chat", "r", state(KILLED, 9, "signal"), {"oom_kill": 1}, signalled=False)
    assert news.oom_kill is True


def test_a_worker_that_exits_after_one_of_its_processes_was_killed_is_not_told_as_killed() -> None:
    news = end_of("chat", "r", state(EXITED, 1, "exit-code"), {"oom_kill": 1}, signalled=False)
    assert news.oom_kill is False


@pytest.mark.parametrize(
    ("last", "result", "why", "hopeless"),
    [
        (
            state(EXITED, 203, "exit-code"),
            "failed",
            "cannot run llama-server: there is no such program, or it cannot be executed",
            True,
        ),
        (state(EXITED, 217, "exit-code"), "failed", "cannot run llama-server: there is no such user", True),
        (
            state(EXITED, 226, "exit-code"),
            "failed",
            "cannot run llama-server: its mount namespace cannot be set up",
            False,
        ),
        (
            state(EXITED, 243, "exit-code"),
            "failed",
            f"cannot run llama-server: systemd ended it with status 243 before it ran{SEE}",
            False,
        ),
        (
            UnitState(result="resources"),
            "failed",
            f"cannot run llama-server: the start of u.service ended with failed, resources{SEE}",
            False,
        ),
        (
            UnitState(),
            "canceled",
            f"cannot run llama-server: the start of u.service was canceled by a stop{SEE}",
            False,
        ),
    ],
)
def test_what_systemd_could_not_start_is_said_in_words(
    last: UnitState,
    result: str,
    why: str,
    hopeless: bool,  # noqa: FBT001
) -> None:
    refusal = refusal_of("u.service", "llama-server", last, result)
    assert (refusal.why, refusal.hopeless) == (why, hopeless)
