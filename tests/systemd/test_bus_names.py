import pytest

from supervisor.systemd.bus import unit_of, unit_path

ROOT = "/org/freedesktop/systemd1/unit/"


@pytest.mark.parametrize(
    ("unit", "path"),
    [
        ("gpu-worker-chat.service", "gpu_2dworker_2dchat_2eservice"),
        ("gpu-worker-chat-10.service", "gpu_2dworker_2dchat_2d10_2eservice"),
        ("9p.mount", "_39p_2emount"),
        ("a_b.slice", "a_5fb_2eslice"),
        ("é.service", "_c3_a9_2eservice"),
    ],
)
def test_a_unit_has_the_object_path_that_systemd_gives_it(unit: str, path: str) -> None:
    assert unit_path(unit) == f"{ROOT}{path}"


@pytest.mark.parametrize(
    "unit", ["gpu-worker-chat.service", "gpu-worker-a-b-1.service", "-.slice", "7.service"]
)
def test_a_unit_is_read_back_from_its_object_path(unit: str) -> None:
    assert unit_of(unit_path(unit)) == unit


@pytest.mark.parametrize("path", ["/org/freedesktop/systemd1", f"{ROOT}a_", f"{ROOT}a_zz", "/"])
def test_what_is_no_path_of_a_unit_is_none(path: str) -> None:
    assert unit_of(path) is None
