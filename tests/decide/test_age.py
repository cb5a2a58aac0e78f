"""Age: drawn once for each life."""

from decide.world import World, worker
from supervisor.decide.age import draw_max_age
from supervisor.model.phase import Cause, Phase

AGED = worker(max_age_s=1800.0, max_age_jitter=0.1)


def test_the_age_of_a_life_lies_within_its_jitter_and_means_what_it_says() -> None:
    drawn = [draw_max_age(AGED, f"i-chat-{at}") or 0.0 for at in range(2000)]
    assert 1620.0 <= min(drawn) < 1630.0
    assert 1970.0 < max(drawn) <= 1980.0
    assert 1794.0 < sum(drawn) / len(drawn) < 1806.0


def test_the_same_life_always_draws_the_same_age() -> None:
    assert draw_max_age(AGED, "i-chat-1") == draw_max_age(AGED, "i-chat-1")


def test_without_max_age_nobody_ages() -> None:
    assert draw_max_age(worker(), "i-chat-1") is None


def test_the_age_is_not_drawn_anew_at_each_look() -> None:
    world = World(AGED)
    world.settle()
    limit = world.life().max_age_s
    assert limit is not None
    world.pass_s(limit - 0.5)
    assert world.life().max_age_s == limit
    assert world.of().restarts == 0
    world.pass_s(1.0)
    assert world.of().restarts == 1
    assert world.of().last.cause is Cause.AGE  # type: ignore[union-attr]
    assert world.life().max_age_s != limit


def test_an_age_restart_is_not_a_failure() -> None:
    world = World(worker(max_age_s=10.0))
    world.settle()
    world.pass_s(600.0)
    assert world.of().restarts > 50
    assert world.of().failures_s == ()
    assert world.phase() is Phase.READY
