import pytest

from supervisor.guard.advice import Advice, Steps, further
from supervisor.guard.pressure import Pressure

STEPS = Steps(
    batch_size=2, input_size=(320, 320), stages=("detect", "classify", "rerank"), never=("classify",)
)


@pytest.mark.parametrize(
    ("level", "advice"),
    [
        (Pressure.NORMAL, Advice()),
        (Pressure.HIGH, Advice(clear_cache=True)),
        (Pressure.CRITICAL, Advice(clear_cache=True, batch_size=2)),
        (
            Pressure.EXTREME,
            Advice(clear_cache=True, batch_size=2, input_size=(320, 320), stages_off=("detect", "rerank")),
        ),
    ],
)
def test_each_level_adds_to_the_advice_and_protected_stages_stay_on(level: Pressure, advice: Advice) -> None:
    assert further(Advice(), level, STEPS) == advice


@pytest.mark.parametrize("level", list(Pressure))
def test_no_level_takes_advice_back(level: Pressure) -> None:
    all_of_it = further(Advice(cpu_fallback=True), Pressure.EXTREME, STEPS)
    assert further(all_of_it, level, STEPS) == all_of_it


def test_the_smallest_sizes_are_one_item_of_640_by_640_unless_given() -> None:
    assert further(Advice(), Pressure.EXTREME, Steps()) == Advice(
        clear_cache=True, batch_size=1, input_size=(640, 640)
    )
