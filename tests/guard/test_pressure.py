import pytest

from supervisor.guard.pressure import Pressure, Thresholds, judge

NORMAL, HIGH, CRITICAL, EXTREME = Pressure


@pytest.mark.parametrize(
    ("usage", "before", "after"),
    [
        (0.00, NORMAL, NORMAL),
        (0.74, NORMAL, NORMAL),
        (0.75, NORMAL, HIGH),
        (0.85, NORMAL, CRITICAL),
        (0.95, NORMAL, EXTREME),
        (1.00, HIGH, EXTREME),
        # it ends 5 % below where it began, and not before
        (0.71, HIGH, HIGH),
        (0.69, HIGH, NORMAL),
        (0.81, CRITICAL, CRITICAL),
        (0.79, CRITICAL, HIGH),
        (0.91, EXTREME, EXTREME),
        (0.89, EXTREME, CRITICAL),
        # a level that it skips over is held to the same
        (0.81, EXTREME, CRITICAL),
        (0.71, EXTREME, HIGH),
        (0.10, EXTREME, NORMAL),
        # nor does hysteresis raise it
        (0.84, HIGH, HIGH),
    ],
)
def test_pressure_rises_at_its_threshold_and_ends_below_it(
    usage: float, before: Pressure, after: Pressure
) -> None:
    assert judge(usage, before, Thresholds()) is after


def test_it_ends_below_that_not_at_it() -> None:
    quarters = Thresholds(0.5, 0.75, 1.0, hysteresis=0.25)  # which floats hold exactly
    assert judge(0.75, EXTREME, quarters) is EXTREME
    assert judge(0.5, CRITICAL, quarters) is CRITICAL
    assert judge(0.25, HIGH, quarters) is HIGH


def test_without_hysteresis_it_ends_where_it_began() -> None:
    assert judge(0.74, HIGH, Thresholds(hysteresis=0.0)) is NORMAL


@pytest.mark.parametrize(
    "wrong",
    [
        Thresholds(high=0.9, critical=0.85),
        Thresholds(high=0.85, critical=0.85),
        Thresholds(critical=0.95, extreme=0.95),
        Thresholds(extreme=1.01),
        Thresholds(hysteresis=-0.01),
        Thresholds(hysteresis=0.75),
        Thresholds(high=75, critical=85, extreme=95),
    ],
)
def test_thresholds_that_do_not_rise_are_refused(wrong: Thresholds) -> None:
    with pytest.raises(ValueError, match="cannot watch memory: "):
        wrong.check()


@pytest.mark.parametrize("right", [Thresholds(), Thresholds(hysteresis=0.0), Thresholds(extreme=1.0)])
def test_the_thresholds_of_the_interface_and_the_outermost_are_accepted(right: Thresholds) -> None:
    right.check()
    assert judge(1.0, NORMAL, right) is EXTREME
