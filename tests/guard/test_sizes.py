import itertools

import pytest

from supervisor.guard.sizes import Sizes, Standing, below, fresh, passed, ran_out, rested, settled, squeezed

SIZES = Sizes()


def at(size: int, *, safe: int | None = None, single: bool = False) -> Standing:
    return Standing(size, 0.0, safe=safe, single=single)


def test_it_begins_at_the_best_size_with_nothing_remembered() -> None:
    assert fresh(SIZES, 7.0) == Standing(12, 7.0, single=False, safe=None, recent=(), calls=0, failed_calls=0)


@pytest.mark.parametrize(
    ("sizes", "size", "halved"),
    [
        (Sizes(), 12, 6),
        (Sizes(), 6, 3),
        (Sizes(), 3, 1),
        (Sizes(), 2, 1),
        (Sizes(), 1, 1),
        (Sizes(smallest=4), 12, 6),
        (Sizes(smallest=4), 6, 4),
        (Sizes(smallest=4), 4, 4),
        (Sizes(smallest=4), 3, 3),  # where an out-of-memory has gone lower already
        (Sizes(smallest=4), 1, 1),
        (Sizes(smallest=12), 12, 12),
    ],
)
def test_pressure_halves_and_never_goes_below_the_smallest(sizes: Sizes, size: int, halved: int) -> None:
    moved = squeezed(sizes, at(size), 5.0)
    assert moved.size == halved
    assert moved.since_s == (0.0 if halved == size else 5.0)


@pytest.mark.parametrize(
    ("fallback", "count", "smaller"),
    [
        ((6, 3, 1), 13, 6),
        ((6, 3, 1), 12, 6),
        ((6, 3, 1), 7, 6),
        ((6, 3, 1), 6, 3),
        ((6, 3, 1), 4, 3),
        ((6, 3, 1), 3, 1),
        ((6, 3, 1), 2, 1),
        ((6, 3, 1), 1, 1),
        ((6,), 6, 3),
        ((6,), 5, 2),
        ((6,), 3, 1),
        ((), 12, 6),
        ((), 2, 1),
        ((), 1, 1),
        ((1, 3, 6), 12, 6),
    ],
)
def test_out_of_memory_goes_to_the_next_size_below_what_failed(
    fallback: tuple[int, ...], count: int, smaller: int
) -> None:
    sizes = Sizes(fallback=fallback)
    assert below(sizes, count) == smaller
    assert ran_out(sizes, at(12), count, 5.0) == Standing(min(12, smaller), 5.0)


def test_out_of_memory_never_grows_a_batch_that_others_have_shrunk() -> None:
    assert ran_out(SIZES, at(1), 12, 5.0).size == 1
    assert ran_out(SIZES, at(4), 12, 5.0).size == 4


@pytest.mark.parametrize(
    ("safe", "count", "then"), [(None, 6, None), (3, 6, 3), (5, 6, 5), (6, 6, None), (8, 6, None)]
)
def test_a_size_is_safe_until_it_runs_out_of_memory(safe: int | None, count: int, then: int | None) -> None:
    assert ran_out(SIZES, at(12, safe=safe), count, 5.0).safe == then


@pytest.mark.parametrize(("safe", "count", "then"), [(None, 1, 1), (3, 6, 6), (6, 6, 6), (6, 3, 6)])
def test_the_largest_size_that_passed_is_safe(safe: int | None, count: int, then: int) -> None:
    assert passed(at(12, safe=safe), count) == at(12, safe=then)


def histories(length: int) -> list[tuple[bool, ...]]:
    return list(itertools.product((False, True), repeat=length))


@pytest.mark.parametrize("history", [one for length in range(1, 8) for one in histories(length)])
def test_two_failed_batches_of_the_last_five_mean_one_item_at_a_time(history: tuple[bool, ...]) -> None:
    standing, single = fresh(SIZES, 0.0), False
    for end, failed in enumerate(history, 1):
        # 20 calls for each, so that the rate stays low
        standing = settled(standing, 20, int(failed), 5.0)
        single = single or history[max(0, end - 5) : end].count(True) >= 2
        assert standing.single == single
        assert standing.size == (1 if single else 12)
        assert len(standing.recent) <= 5


@pytest.mark.parametrize(
    ("calls", "failed", "single"),
    [
        (1, 1, False),
        (9, 9, False),  # too few to speak of a rate
        (10, 0, False),
        (10, 4, False),  # 40 % is not above 40 %
        (10, 5, True),
        (100, 40, False),
        (100, 41, True),
    ],
)
def test_a_failure_rate_above_40_percent_means_one_item_at_a_time(
    calls: int, failed: int, *, single: bool
) -> None:
    standing = settled(fresh(SIZES, 0.0), calls, failed, 5.0)
    assert (standing.single, standing.size) == (single, 1 if single else 12)


def test_the_rate_is_of_all_calls_since_the_beginning() -> None:
    standing = settled(settled(fresh(SIZES, 0.0), 6, 0, 1.0), 6, 5, 2.0)
    assert (standing.calls, standing.failed_calls, standing.single) == (12, 5, True)


def test_only_a_failed_batch_ends_the_quiet() -> None:
    assert settled(fresh(SIZES, 0.0), 1, 0, 5.0).since_s == 0.0
    assert settled(fresh(SIZES, 0.0), 2, 1, 5.0).since_s == 5.0


@pytest.mark.parametrize(
    ("sizes", "size", "now_s", "grown"),
    [
        (Sizes(quiet_s=60), 1, 59.9, 1),
        (Sizes(quiet_s=60), 1, 60.0, 3),
        (Sizes(quiet_s=60), 2, 60.0, 3),
        (Sizes(quiet_s=60), 3, 60.0, 6),
        (Sizes(quiet_s=60), 6, 60.0, 12),
        (Sizes(quiet_s=60), 7, 60.0, 12),
        (Sizes(quiet_s=60), 12, 60.0, 12),
        (Sizes(best=4, quiet_s=60), 3, 60.0, 4),  # no fallback above the best
        (Sizes(fallback=(), quiet_s=60), 1, 60.0, 12),
        (Sizes(), 1, 1e9, 1),
    ],
)
def test_it_grows_by_one_size_after_a_quiet_period_if_at_all(
    sizes: Sizes, size: int, now_s: float, grown: int
) -> None:
    standing = Standing(size, 0.0, safe=1, recent=(True,), calls=9, failed_calls=8)
    moved = rested(sizes, standing, now_s)
    assert moved == (standing if grown == size else Standing(grown, now_s, safe=1))


def test_the_quiet_is_counted_from_the_last_trouble() -> None:
    sizes = Sizes(quiet_s=60)
    assert rested(sizes, Standing(3, 30.0), 89.9) == Standing(3, 30.0)
    assert rested(sizes, Standing(3, 30.0), 90.0) == Standing(6, 90.0)


def test_single_item_mode_lasts_until_a_quiet_period_or_a_fresh_start() -> None:
    sizes = Sizes(quiet_s=60)
    single = settled(settled(fresh(sizes, 0.0), 20, 1, 1.0), 20, 1, 2.0)
    for _ in range(50):
        single = settled(single, 20, 0, 3.0)
        assert (single.single, single.size) == (True, 1)
    assert rested(sizes, single, 62.0) == Standing(3, 62.0)
    assert fresh(sizes, 3.0).single is False


@pytest.mark.parametrize(
    ("sizes", "why"),
    [
        (Sizes(best=0), "cannot make batches of 0: the size is at least 1"),
        (Sizes(smallest=0), "cannot shrink to 0: the smallest size is from 1 to 12"),
        (Sizes(smallest=13), "cannot shrink to 13: the smallest size is from 1 to 12"),
        (Sizes(fallback=(6, 0)), "cannot fall back to 0: a size is at least 1"),
        (Sizes(quiet_s=0), "cannot grow after 0 s: a quiet period is longer than 0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes: Sizes, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{why}$"):
        sizes.check()


def test_sizes_at_their_bounds_are_good() -> None:
    Sizes(best=1, smallest=1, fallback=(1,), quiet_s=0.1).check()
    Sizes(best=12, smallest=12, fallback=()).check()
