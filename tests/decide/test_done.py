"""`restart: {on: failure}`: who ends by itself with status 0 is done."""

import pytest

from decide.world import GIB, World, replicas, worker
from supervisor.decide.resume import after_reboot
from supervisor.model.action import Kill, Launch
from supervisor.model.memory import Budget
from supervisor.model.news import Exited, Shutdown
from supervisor.model.phase import Cause, Phase
from supervisor.model.plan import BreachRule, MemoryCaps, NotifyTarget, RestartRule, WorkerPlan
from supervisor.model.verdict import Death, Verdict

ON_FAILURE = RestartRule(first_s=1.0, max_s=60.0, starts=3, within_s=600.0, on="failure")
JOB = worker("job", restart=ON_FAILURE)


def running(plan: WorkerPlan = JOB) -> World:
    world = World(plan)
    world.settle()
    world.pass_s(30.0)
    return world


def done(plan: WorkerPlan = JOB) -> World:
    world = running(plan)
    world.exits("job", code=0)
    world.settle()
    return world


def test_a_job_that_ends_with_status_0_is_done_and_stays_stopped_with_the_reason_told() -> None:
    world = done()
    assert world.phase("job") is Phase.STOPPED
    assert world.of("job").done == "exited with status 0 after 30.0 s"
    assert (world.of("job").restarts, world.of("job").failures_s) == (0, ())
    [exited], [ended] = world.told("worker exited"), world.told("worker done")
    assert (exited.level, exited.cause, exited.reason) == (
        "info",
        Cause.EXIT,
        "exited with status 0 after 30.0 s",
    )
    assert (ended.outcome, ended.reason) == ("done", "exited with status 0 after 30.0 s")
    world.pass_s(3600.0)
    assert [one for one in world.log if isinstance(one, Launch)] == world.log[:1]


def test_who_comes_after_a_job_starts_once_that_is_done_and_not_while_it_has_failed() -> None:
    world = World(worker("job", restart=ON_FAILURE, ready=NotifyTarget()), worker("web", after=("job",)))
    world.settle()
    assert world.of("web").waits_for == "job to be ready"
    world.exits("job", code=1)
    world.settle()
    assert world.of("web").waits_for == "job to be ready"
    world.pass_s(5.0)
    world.exits("job", code=0)
    world.settle()
    assert (world.phase("job"), world.phase("web")) == (Phase.STOPPED, Phase.READY)


@pytest.mark.parametrize("wish", ["start", "restart"])
def test_a_job_that_is_done_is_run_again_when_somebody_asks(wish: str) -> None:
    world = done()
    world.settle(world.asks(wish, "job"))  # type: ignore[arg-type]
    assert (world.phase("job"), world.of("job").done) == (Phase.READY, None)
    world.exits("job", code=0)
    world.settle()
    assert (world.phase("job"), world.of("job").done) == (Phase.STOPPED, "exited with status 0 after 0.0 s")


@pytest.mark.parametrize(
    ("code", "signum", "reason"),
    [
        (1, None, "exited with status 1 after 30.0 s"),
        (None, 15, "killed by SIGTERM after 30.0 s"),
        (None, None, "ended while nobody could see how after 30.0 s"),
    ],
)
def test_any_other_end_is_a_failure_and_starts_it_again(
    code: int | None, signum: int | None, reason: str
) -> None:
    world = running()
    world.exits("job", code=code, signum=signum)
    world.settle()
    assert (world.phase("job"), world.of("job").done) == (Phase.WAITING, None)
    assert world.told("worker exited")[0].reason == reason
    assert len(world.of("job").failures_s) == 1
    world.pass_s(3.0)
    assert world.phase("job") is Phase.READY


def test_status_0_with_last_words_of_no_memory_is_a_failure() -> None:
    world = running()
    tree = world.tree("job")
    tree.main = False
    world.settle(Exited("job", tree.run, code=0, verdict=Verdict(Death.VRAM_OOM, "CUDA out of memory")))
    assert world.phase("job") is Phase.WAITING
    assert len(world.of("job").other_failures_s[Budget.OOM]) == 1


def test_a_job_that_fails_too_often_is_held_and_not_done() -> None:
    world = running()
    for _ in range(3):
        world.exits("job", code=2)
        world.pass_s(10.0)
    assert (world.phase("job"), world.of("job").done) == (Phase.HELD, None)


def test_a_job_may_be_done_before_it_is_ready() -> None:
    world = done(worker("job", restart=ON_FAILURE, ready=NotifyTarget()))
    assert world.phase("job") is Phase.STOPPED


def test_a_restart_for_age_is_none_of_its_own_whatever_its_status() -> None:
    world = World(worker("job", restart=ON_FAILURE, max_age_s=60.0, max_age_jitter=0.0))
    world.newborn = {"obeys": False}
    world.settle()
    world.pass_s(61.0)
    assert world.phase("job") is Phase.STOPPING
    world.exits("job", code=0)
    world.settle()
    assert (world.phase("job"), world.of("job").restarts) == (Phase.READY, 1)


def test_a_restart_at_its_cap_is_none_of_its_own_whatever_its_status() -> None:
    breach = BreachRule(samples=1, of=1, warm_up_s=0.0)
    world = World(worker("job", restart=ON_FAILURE, breach=breach, memory=MemoryCaps(cap_bytes=GIB)))
    world.newborn = {"obeys": False}
    world.settle()
    world.tree("job").memory_bytes = GIB + 1
    world.pass_s(4.0)
    assert world.phase("job") is Phase.STOPPING
    world.exits("job", code=0)
    world.pass_s(3.0)
    assert (world.phase("job"), world.of("job").last.cause) == (Phase.READY, Cause.MEMORY_CAP)  # type: ignore[union-attr]


def test_an_operator_s_restart_that_waits_for_its_moment_is_kept() -> None:
    one, two = replicas("job", 2, restart=ON_FAILURE)
    world = World(one, two)
    world.newborn = {"obeys": False}
    world.settle()
    world.settle(world.asks("restart", "job"))  # one goes down, the other waits for it
    assert (world.phase("job-1"), world.phase("job-2")) == (Phase.STOPPING, Phase.READY)
    world.exits("job-2", code=0)
    world.pass_s(3.0)
    assert (world.phase("job-2"), world.of("job-2").done) == (Phase.READY, None)


def test_what_is_left_of_a_job_is_ended_before_it_counts_as_done() -> None:
    world = running()
    world.tree("job").others.append(999)
    world.exits("job", code=0)
    world.turn()
    assert (world.phase("job"), world.of("job").done) == (Phase.RECLAIMING, None)
    world.pass_s(1.0)
    assert [one.reason for one in world.log if isinstance(one, Kill)] == ["1 processes outlive the main one"]
    assert (world.phase("job"), world.of("job").done) == (
        Phase.STOPPED,
        "exited with status 0 after 30.0 s",
    )


def test_an_operator_who_starts_it_while_its_memory_comes_back_gets_it() -> None:
    world = running()
    world.tree("job").killable = False
    world.tree("job").others.append(999)
    world.exits("job", code=0)
    world.turn()
    world.turn(world.asks("start", "job"))
    assert world.phase("job") is Phase.RECLAIMING
    world.tree("job").others.clear()
    world.pass_s(2.0)
    assert world.phase("job") is Phase.READY


def test_a_job_that_is_done_stays_done_over_daemons_and_reboots() -> None:
    world = done()
    world.crash()
    world.pass_s(10.0)
    assert world.of("job").done == "exited with status 0 after 30.0 s"
    world.memory = after_reboot(world.memory)
    world.pass_s(10.0)
    assert (world.phase("job"), world.of("job").done) == (
        Phase.STOPPED,
        "exited with status 0 after 30.0 s",
    )


def test_a_job_that_ends_because_the_supervisor_does_is_run_again_by_the_next_one() -> None:
    world = running()
    world.tree("job").obeys = False
    world.settle(Shutdown())
    world.exits("job", code=0)
    world.settle()
    assert (world.phase("job"), world.of("job").done) == (Phase.STOPPED, None)
    assert world.of("job").wanted


def test_without_the_key_status_0_starts_it_again() -> None:
    world = running(worker("job"))
    world.exits("job", code=0)
    world.pass_s(3.0)
    assert (world.phase("job"), world.of("job").restarts) == (Phase.READY, 1)
