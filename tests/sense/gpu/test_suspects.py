import pytest

from supervisor.sense.gpu.patience import Patience, delay
from supervisor.sense.gpu.suspects import Suspect, Turn, blamed, cleared, turn, within

PATIENCE = Patience(backoff_s=(1.0, 5.0, 60.0))


def test_a_gpu_is_put_off_the_longer_the_more_often_it_fails() -> None:
    first = blamed({}, 2, PATIENCE, 100.0)
    assert first == {2: Suspect(failures=1, retry_s=101.0)}
    second = blamed(first, 2, PATIENCE, 200.0)
    assert second == {2: Suspect(failures=2, retry_s=205.0)}
    third = blamed(second, 2, PATIENCE, 300.0)
    fourth = blamed(third, 2, PATIENCE, 400.0)
    assert fourth == {2: Suspect(failures=4, retry_s=460.0)}


def test_a_gpu_that_answered_begins_anew() -> None:
    suspects = {1: Suspect(3, 50.0), 2: Suspect(1, 50.0)}
    assert cleared(suspects, 1) == {2: Suspect(1, 50.0)}
    assert within(suspects, (1, 7)) == {1: Suspect(3, 50.0)}


def test_a_suspect_is_left_out_until_its_time_and_then_read_last() -> None:
    suspects = {0: Suspect(1, 10.0), 3: Suspect(1, 20.0)}
    assert turn(suspects, stuck=0, now_s=5.0) == Turn(skip=(0, 3), last=())
    assert turn(suspects, stuck=0, now_s=10.0) == Turn(skip=(3,), last=(0,))
    assert turn(suspects, stuck=0, now_s=30.0) == Turn(skip=(), last=(0, 3))


@pytest.mark.parametrize(("stuck", "last"), [(0, (0,)), (1, (0,)), (2, ()), (9, ())])
def test_no_suspect_gets_another_helper_while_two_cannot_be_killed(stuck: int, last: tuple[int, ...]) -> None:
    assert turn({0: Suspect(1, 10.0)}, stuck, now_s=99.0).last == last


def test_the_last_step_of_a_backoff_repeats() -> None:
    assert [delay((1.0, 2.0, 60.0), failures) for failures in range(5)] == [1.0, 2.0, 60.0, 60.0, 60.0]
