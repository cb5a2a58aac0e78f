"""Backoff, its end, and when a worker is held."""

from decide.world import GIB, World, worker
from supervisor.decide.restarts import delay_s, spend
from supervisor.model.action import Launch
from supervisor.model.memory import WorkerMemory
from supervisor.model.phase import Cause, Phase
from supervisor.model.plan import BreachRule, MemoryCaps, RestartRule

UNCHANGED = "no ladder is written, so it goes on with the same settings"
RULE = RestartRule(first_s=1.0, max_s=60.0, starts=5, within_s=600.0)


def test_the_delay_doubles_up_to_its_maximum() -> None:
    middles = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    for failures, middle in enumerate(middles, 1):
        drawn = [delay_s(RULE, failures, f"chat {at}") for at in range(400)]
        assert 0.75 * middle <= min(drawn) < 0.77 * middle
        assert max(drawn) <= min(1.25 * middle, 60.0)


def test_a_thousand_failures_still_have_a_delay() -> None:
    assert 45.0 <= delay_s(RULE, 100_000, "chat") <= 60.0


def test_the_delay_begins_anew_after_a_life_that_was_ready_for_longer_than_the_longest_backoff() -> None:
    past = WorkerMemory("chat", backoff=4, failures_s=(150.0,))
    assert spend(past, RULE, 200.0, healthy_s=60.1, why="exited").backoff == 1
    assert spend(past, RULE, 200.0, healthy_s=60.0, why="exited").backoff == 5


def test_a_crash_loop_that_looks_healthy_in_between_is_held_all_the_same() -> None:
    past = WorkerMemory("chat", failures_s=(1.0, 100.0, 200.0, 300.0))
    assert spend(past, RULE, 400.0, healthy_s=90.0, why="exited").held is not None


def test_failures_that_are_long_past_do_not_hold_a_worker() -> None:
    past = WorkerMemory("chat", backoff=4, failures_s=(0.0, 1.0, 2.0, 700.0))
    spent = spend(past, RULE, 800.0, healthy_s=0.0, why="exited")
    assert spent.failures_s == (700.0, 800.0)
    assert spent.held is None


def test_a_worker_that_always_fails_is_held_and_the_words_release_it() -> None:
    world = World(worker(restart=RULE))
    world.launch_fails = "cannot run serve: no such file"
    world.pass_s(600.0)
    assert world.phase() is Phase.HELD
    assert world.of().held == (
        "5 failures within 10min, the last: cannot run serve: no such file;"
        " `gpu-supervisor reset chat` releases it"
    )
    assert len([one for one in world.log if isinstance(one, Launch)]) == 5
    assert world.told("worker held")[0].outcome == "held"


def test_a_hopeless_launch_holds_at_once() -> None:
    world = World(worker())
    world.launch_fails, world.hopeless = "no user llm", True
    world.settle()
    assert world.phase() is Phase.HELD
    assert world.of().held == "no user llm; `gpu-supervisor reset chat` tries again"


def test_between_two_failures_nothing_is_launched() -> None:
    world = World(worker(restart=RestartRule(first_s=10.0, max_s=60.0)))
    world.settle()
    world.exits()
    world.settle()
    assert world.phase() is Phase.WAITING
    assert (world.of().waits_for or "").startswith("backoff of ")
    world.pass_s(7.4)
    assert world.phase() is Phase.WAITING
    world.pass_s(5.2)
    assert world.phase() is Phase.READY


def test_a_worker_that_needs_more_than_its_cap_is_told_so() -> None:
    capped = worker(memory=MemoryCaps(cap_bytes=GIB), breach=BreachRule(1, 1, 5.0))
    world = World(capped)
    world.newborn = {"memory_bytes": 2 * GIB}
    world.pass_s(120.0)
    assert world.phase() is Phase.HELD
    assert world.of().held == (
        "it needs 2GiB from the start, above its cap of 1GiB, in 2 lives in a row:"
        " raise memory.cap or make it smaller; `gpu-supervisor reset chat` releases it"
    )
    assert world.told("worker held")[0].cause is Cause.MEMORY_CAP


def test_a_worker_that_grows_over_its_cap_each_time_is_no_misconfiguration() -> None:
    capped = worker(
        memory=MemoryCaps(cap_bytes=GIB), breach=BreachRule(1, 1, 5.0), restart=RestartRule(starts=99)
    )
    world = World(capped)
    for _ in range(4):
        world.pass_s(60.0)
        world.tree().memory_bytes = 2 * GIB
        world.pass_s(2.5)
    assert world.of().restarts + (world.of().stop is not None) >= 3
    assert world.of().above_cap_lives == 0
    assert world.phase() is not Phase.HELD


def test_a_worker_that_the_kernel_killed_for_its_memory_is_restarted_with_the_counters_told() -> None:
    world = World(worker())
    world.pass_s(40.0)
    [tree] = world.trees.values()
    world.end_main(tree, code=None, signum=9, counters={"high": 3, "low": 0, "oom_kill": 1})
    world.settle()
    [told] = world.told("worker exited")
    assert told.cause is Cause.HOST_OOM_KILL
    assert told.reason == "killed by the kernel's OOM killer (its limit) after 40.0 s; " + UNCHANGED
    assert told.fields["memory_events_high"] == 3
    assert told.fields["memory_events_oom_kill"] == 1
    assert "memory_events_low" not in told.fields
    assert world.of().oom_events == 1
    world.pass_s(2.0)
    assert world.phase() is Phase.READY
    last = world.of().last
    assert last is not None
    assert last.cause is Cause.HOST_OOM_KILL


def test_a_worker_that_the_kernel_kills_while_it_is_stopped_at_its_cap_was_killed_by_the_kernel() -> None:
    caps = MemoryCaps(cap_bytes=GIB, max_bytes=2 * GIB)
    breach = BreachRule(samples=1, of=1, warm_up_s=0.0)
    world = World(worker(memory=caps, breach=breach))
    world.settle()
    [tree] = world.trees.values()
    tree.obeys = False
    tree.memory_bytes = GIB + 1
    world.pass_s(4.0)
    assert world.phase() is Phase.STOPPING
    world.end_main(tree, code=None, signum=9, counters={"oom_kill": 1})
    world.pass_s(2.0)
    last = world.of().last
    assert last is not None
    assert last.cause is Cause.HOST_OOM_KILL
    assert last.reason == (
        f"killed by the kernel's OOM killer (its limit); {UNCHANGED};"
        " memory 1GiB is above its cap of 1GiB in 1 of 1 readings"
    )
    assert world.of().oom_events == 1
