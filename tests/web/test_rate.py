"""How often somebody may do something."""

import pytest

from supervisor.web.problem import ProblemError
from supervisor.web.rate import Rate, RateLimit


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def _take(limit: RateLimit, client: str) -> str | None:
    """Take one; return when to come again where it is refused."""
    try:
        limit.take(client)
    except ProblemError as error:
        return f"{error.headers['Retry-After']} s after {int(error.status)}"
    return None


def test_a_burst_is_granted_and_then_one_at_a_time() -> None:
    clock = Clock()
    limit = RateLimit(Rate(2, 5.0), Rate(100, 1.0), clock)
    assert [_take(limit, "a") for _ in range(3)] == [None, None, "5 s after 429"]
    clock.now_s += 4.0
    assert _take(limit, "a") == "1 s after 429"
    clock.now_s += 1.0
    assert [_take(limit, "a") for _ in range(2)] == [None, "5 s after 429"]


def test_one_client_does_not_use_up_what_is_anothers() -> None:
    limit = RateLimit(Rate(1, 5.0), Rate(100, 1.0), Clock())
    assert [_take(limit, client) for client in ("a", "a", "b")] == [None, "5 s after 429", None]


def test_all_together_have_a_rate_as_well() -> None:
    limit = RateLimit(Rate(1, 1.0), Rate(3, 2.0), Clock())
    assert [_take(limit, f"c{number}") for number in range(4)] == [None, None, None, "2 s after 429"]


def test_a_refused_one_costs_nothing() -> None:
    clock = Clock()
    limit = RateLimit(Rate(1, 5.0), Rate(100, 1.0), clock)
    for _ in range(10):
        _take(limit, "a")
    clock.now_s += 5.0
    assert _take(limit, "a") is None


@pytest.mark.parametrize("clients", [5000])
def test_what_is_remembered_of_clients_is_bounded(clients: int) -> None:
    limit = RateLimit(Rate(1, 1e9), Rate(10_000, 1.0), Clock())
    for number in range(clients):
        _take(limit, f"c{number}")
    assert limit.remembered == 1024
