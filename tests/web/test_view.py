"""What changed between two answers of the daemon, as values."""

import json
from typing import Any

import msgspec
import pytest

from supervisor.model.status import Status
from supervisor.web.view import changes, merged
from support.control_desk import everything, worker


def document(status: Status) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(msgspec.json.encode(status))
    return found


OLD = document(everything(worker("a"), worker("b")))


def test_nothing_has_changed_where_all_is_the_same() -> None:
    assert changes(OLD, document(everything(worker("a"), worker("b"))), ages=True) == {}


@pytest.mark.parametrize("ages", [False, True])
def test_what_only_grew_older_is_told_now_and_then(*, ages: bool) -> None:
    new = document(everything(worker("a", age_s=75.0, restart_in_s=3525.0), worker("b")))
    told = changes(OLD, new, ages=ages)
    assert [one["name"] for one in told.get("workers", [])] == (["a"] if ages else [])


def test_what_was_not_told_stays_to_be_told() -> None:
    new = document(everything(worker("a", age_s=75.0), worker("b", rung=1)))
    told = changes(OLD, new, ages=False)
    known = merged(OLD, new, told)
    assert [one["name"] for one in told["workers"]] == ["b"]
    assert known["workers"] == [OLD["workers"][0], new["workers"][1]]
    assert [one["name"] for one in changes(known, new, ages=True)["workers"]] == ["a"]


def test_a_changed_order_is_told_without_its_workers() -> None:
    new = document(everything(worker("b"), worker("a")))
    assert changes(OLD, new, ages=False) == {"order": ["b", "a"]}


def test_a_gpu_that_changed_is_told_whole() -> None:
    new = document(everything(worker("a"), worker("b")))
    new["gpus"][0] = {**new["gpus"][0], "temperature_c": 90.0}
    assert changes(OLD, new, ages=False) == {"gpus": [new["gpus"][0]]}


def test_where_it_is_not_the_same_gpus_any_more_all_are_told() -> None:
    first = OLD["gpus"][0]
    second = {**first, "index": 1, "uuid": "GPU-2"}
    both, one, none = ({**OLD, "gpus": gpus} for gpus in ([first, second], [second], []))

    assert changes(OLD, both, ages=False) == {"status": {"gpus": [first, second]}}
    assert changes(both, one, ages=True) == {"status": {"gpus": [second]}}
    assert changes(one, none, ages=False) == {"status": {"gpus": []}}
    assert merged(OLD, both, changes(OLD, both, ages=False))["gpus"] == [first, second]
    assert merged(both, one, changes(both, one, ages=False))["gpus"] == [second]
