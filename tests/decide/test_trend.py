"""A leak is found in what a worker holds at rest, and nothing else is taken for one."""

import pytest

from supervisor.decide.trend import MOST_FLOORS, growth_of, merged, slope_of, take
from supervisor.model.reading import Missing
from supervisor.model.trend import Floor, Growth, Trend
from support.memory_traces import CAP, STEP_S, Trace, leaks, plateaus

STRETCH_S = 5 * STEP_S
GIB = 1 << 30
MIB = 1 << 20


def found(trace: Trace) -> tuple[float, Growth] | None:
    """Return when the first leak is found in a trace, before a reading is above the cap, and what it is."""
    trend = Trend()
    for at_s, reading in trace.readings:
        if reading > CAP:
            return None
        taken = take(trend, reading, at_s, STRETCH_S)
        if taken.floors is not trend.floors and (growth := growth_of(taken.floors, CAP)) is not None:
            return at_s, growth
        trend = taken
    return None


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_no_plateau_of_a_thousand_is_taken_for_a_leak(seed: int) -> None:
    assert [trace.kind for trace in plateaus(200, seed) if found(trace) is not None] == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 14))
def test_of_a_thousand_leaks_nearly_all_are_found_before_their_cap(seed: int) -> None:
    traces = list(leaks(250, seed))
    shares = sorted(one[0] / trace.readings[-1][0] for trace in traces if (one := found(trace)) is not None)
    assert len(shares) >= 238  # 95 %
    assert shares[len(shares) // 2] < 0.7  # of the way to the cap


def line(count: int, slope: float = 1.0, width_s: float = 10.0) -> list[Floor]:
    """Return floors on a line, in MiB, with 5 MiB of load on top."""
    return [
        Floor(at * width_s, int(MIB * (100 + slope * at)), int(MIB * (105 + slope * (at + 1))))
        for at in range(count)
    ]


def read(trend: Trend, readings: list[int], begin_s: float, width_s: float = 10.0) -> Trend:
    for at, reading in enumerate(readings):
        trend = take(trend, reading, begin_s + 2.0 * at, width_s)
    return trend


def test_a_stretch_becomes_its_lowest_reading_and_the_highest_that_two_in_a_row_held() -> None:
    trend = read(Trend(), [50, 40, 90, 60, 70, 80], begin_s=100.0)
    assert trend.floors == (Floor(102.0, 40, 60),)
    assert (trend.readings, trend.opened_s, trend.low_bytes, trend.held_bytes) == (1, 110.0, 80, 70)


def test_what_is_missing_or_stale_adds_nothing() -> None:
    trend = read(Trend(), [50, 40], begin_s=100.0)
    assert take(trend, Missing("gone"), 104.0, 10.0) is trend
    assert take(trend, 10, 102.0, 10.0) is trend
    assert take(trend, 10, 101.0, 10.0) is trend


def test_a_stretch_with_a_gap_as_long_as_itself_is_dropped() -> None:
    trend = read(Trend(), [50, 40, 60, 50], begin_s=100.0)
    kept = take(trend, 55, 116.0, 10.0)
    assert kept.floors == (Floor(102.0, 40, 50),)
    dropped = take(trend, 55, 116.1, 10.0)
    assert (dropped.floors, dropped.opened_s, dropped.readings) == ((), 116.1, 1)
    assert (dropped.low_bytes, dropped.low_s, dropped.held_bytes) == (55, 116.1, 55)


def test_a_stretch_of_two_readings_shows_no_floor() -> None:
    trend = take(take(take(Trend(), 50, 100.0, 10.0), 40, 106.0, 10.0), 45, 112.0, 10.0)
    assert (trend.floors, trend.opened_s) == ((), 112.0)


def test_a_life_of_any_length_keeps_few_floors_and_its_lowest_are_kept() -> None:
    trend, most = Trend(), 0
    for at in range(40_000):
        trend = take(trend, 1000 + at if at % 7 else at, 2.0 * at + 1, 10.0)
        most = max(most, len(trend.floors))
    assert most == MOST_FLOORS - 1
    assert trend.width_s == 1280.0
    assert 31 <= len(trend.floors) <= 63
    assert all(one.low_bytes == (one.at_s - 1) / 2 for one in trend.floors)


def test_a_poll_that_became_slower_makes_wider_stretches_and_a_faster_one_does_not() -> None:
    trend = read(Trend(), [1, 1, 1], begin_s=1.0)
    assert take(trend, 1, 7.0, 40.0).width_s == 40.0
    assert take(trend, 1, 7.0, 5.0).width_s == 10.0


def test_merging_keeps_the_lowest_of_a_stretch_and_when_it_was() -> None:
    floors = [Floor(1.0, 5, 9), Floor(12.0, 3, 4), Floor(25.0, 7, 8), Floor(39.0, 7, 12)]
    assert merged(floors, 20.0) == (Floor(12.0, 3, 9), Floor(25.0, 7, 12))


def test_the_slope_of_a_line_is_its_slope_whatever_a_few_outliers_say() -> None:
    floors = line(40)
    for at in (3, 9, 22, 31, 38):
        floors[at] = Floor(floors[at].at_s, 900 * MIB, 900 * MIB)
    slope, least, most = slope_of(floors)
    assert slope == pytest.approx(0.1 * MIB, rel=0.03)
    assert 0 < least <= slope <= most


def test_the_interval_is_that_of_sen() -> None:
    # Gilbert 1987, section 16.5, with n = 10: of 45 slopes, the spread is 3.29 * sqrt(125) = 36.78, and the
    # limits are those of rank (45 - 36.78) / 2 = 4.1, and as many from the other end.
    floors = [Floor(float(at), at * at, at * at) for at in range(10)]
    slopes = sorted(float(a + b) for b in range(10) for a in range(b))
    assert slope_of(floors) == (slopes[22], slopes[3], slopes[41])


CLOSE = 150 * MIB  # the cap that 40 floors of `line` reach soon


def test_a_leak_is_found_with_its_slope_its_level_and_its_load() -> None:
    growth = growth_of(line(40), CLOSE)
    assert growth is not None
    assert growth.slope == pytest.approx(0.1 * MIB)
    assert growth.slope_least == pytest.approx(0.1 * MIB)
    assert growth.slope_most == pytest.approx(0.1 * MIB)
    assert (growth.since_s, growth.at_s) == (0.0, 390.0)
    assert growth.level_bytes == pytest.approx(139 * MIB, abs=2)
    assert growth.swing_bytes == 5 * MIB


def test_a_cap_that_is_further_off_than_half_of_what_was_seen_is_no_forecast() -> None:
    # 39 MiB in 390 s; the floor is at 139 MiB with 5 MiB of load on it, so half as far leads to 163.5 MiB
    assert growth_of(line(40), int(163.4 * MIB)) is not None
    assert growth_of(line(40), int(163.6 * MIB)) is None


def test_too_few_floors_say_nothing() -> None:
    assert growth_of(line(15), 118 * MIB) is None
    assert growth_of(line(16), 118 * MIB) is not None


def test_a_rise_below_a_fiftieth_of_the_cap_is_no_leak() -> None:
    # the first and the last quarter of 40 floors are 30 steps apart
    just = [Floor(one.at_s, one.low_bytes + 1380 * MIB, one.held_bytes + 1380 * MIB) for one in line(40)]
    assert growth_of(just, 1500 * MIB) is not None
    less = [Floor(one.at_s, one.low_bytes + 1410 * MIB, one.held_bytes + 1410 * MIB) for one in line(40)]
    assert growth_of(less, 1530 * MIB) is None


def test_what_came_to_rest_is_no_leak() -> None:
    assert growth_of([*line(20, slope=2.0), *rest(20, 138)], CLOSE) is None


def rest(count: int, mib: int) -> list[Floor]:
    """Return floors of a worker that stays at `mib` after 200 s."""
    return [Floor(200.0 + 10 * at, mib * MIB, mib * MIB) for at in range(count)]


def test_a_leak_that_begins_late_is_found_once_it_is_a_quarter_of_the_life() -> None:
    quiet = [Floor(10.0 * at - 480, 100 * MIB, 100 * MIB) for at in range(48)]
    assert growth_of([*quiet, *line(16)], 120 * MIB) is not None


def test_what_goes_back_to_where_it_has_been_is_no_leak() -> None:
    before = [Floor(10.0 * at - 480, MIB * (100 + at % 16), 0) for at in range(48)]
    assert growth_of([*before, *line(16)], 120 * MIB) is None


def test_growth_that_is_expected_is_no_leak_until_it_is_exceeded() -> None:
    assert growth_of(line(40), CLOSE, plateau_bytes=40 * MIB) is None
    assert growth_of(line(40), CLOSE, plateau_bytes=38 * MIB) is not None


def test_growth_that_is_expected_and_does_not_fit_below_the_cap_is_told_as_any_other() -> None:
    assert growth_of(line(40), CLOSE, plateau_bytes=45 * MIB) is None
    assert growth_of(line(40), CLOSE, plateau_bytes=46 * MIB) is not None


def test_when_it_was_makes_no_difference() -> None:
    later = [Floor(one.at_s + 1e6, one.low_bytes, one.held_bytes) for one in line(40)]
    assert growth_of(later, int(163.6 * MIB)) is None
    growth = growth_of(later, int(163.4 * MIB))
    assert growth is not None
    assert (growth.since_s, growth.at_s) == (1_000_000.0, 1_000_390.0)


def test_a_rise_to_where_it_has_been_and_no_higher_is_no_leak() -> None:
    # the last quarter of 16 floors on the line lies around 113.5 MiB
    quiet = [Floor(10.0 * at - 480, 100 * MIB, 100 * MIB) for at in range(47)]
    peak = Floor(-10.0, int(113.5 * MIB), int(113.5 * MIB))
    assert growth_of([*quiet, peak, *line(16)], 120 * MIB) is None
    lower = Floor(-10.0, int(113.4 * MIB), int(113.5 * MIB))
    assert growth_of([*quiet, lower, *line(16)], 120 * MIB) is not None
