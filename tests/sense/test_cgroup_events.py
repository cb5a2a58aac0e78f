import select
from collections.abc import Generator
from pathlib import Path

import pytest

from supervisor.model.reading import Missing
from supervisor.sense.cgroup_events import CgroupEvents
from support.procs import open_files

# That the kernel wakes us is shown in the test machine (tests/system): an ordinary file cannot be polled.


def cgroup(at: Path, text: str) -> Path:
    at.mkdir(exist_ok=True)
    (at / "memory.events").write_text(text)
    return at


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def events(told: list[str]) -> Generator[CgroupEvents]:
    before = open_files()
    made = CgroupEvents(told.append)
    yield made
    made.close()
    assert open_files() == before


def test_counters_are_those_of_the_life_and_not_of_the_one_before(
    events: CgroupEvents, tmp_path: Path
) -> None:
    at = cgroup(tmp_path / "chat.service", "low 0\nhigh 7\nmax 3\noom 1\noom_kill 1\n")
    events.watch("run", at)
    assert events.counters("run") == {"low": 0, "high": 0, "max": 0, "oom": 0, "oom_kill": 0}
    cgroup(at, "low 0\nhigh 9\nmax 3\noom 2\noom_kill 4\noom_group_kill 1\n")
    assert events.counters("run") == {
        "low": 0,
        "high": 2,
        "max": 0,
        "oom": 1,
        "oom_kill": 3,
        "oom_group_kill": 1,
    }


def test_what_is_not_polled_is_said_and_read_when_asked_for(events: CgroupEvents, tmp_path: Path) -> None:
    at = cgroup(tmp_path / "chat.service", "oom_kill 0\n")
    assert events.watch("run", at) == Missing(f"cannot watch {at}/memory.events: Operation not permitted")
    cgroup(at, "oom_kill 1\n")
    assert events.counters("run") == {"oom_kill": 1}


def test_a_cgroup_without_the_file_is_said_and_has_no_counters(events: CgroupEvents, tmp_path: Path) -> None:
    why = Missing(f"cannot watch {tmp_path}/memory.events: No such file or directory")
    assert events.watch("run", tmp_path) == why
    assert events.counters("run") == {}


def test_a_life_that_is_forgotten_has_no_counters(events: CgroupEvents, tmp_path: Path) -> None:
    at = cgroup(tmp_path / "chat.service", "oom_kill 0\n")
    events.watch("run", at)
    events.forget("run")
    events.forget("run")
    assert events.counters("run") == {}


def test_a_life_that_is_watched_again_begins_anew(events: CgroupEvents, tmp_path: Path) -> None:
    at = cgroup(tmp_path / "chat.service", "oom_kill 0\n")
    events.watch("run", at)
    cgroup(at, "oom_kill 1\n")
    events.watch("run", at)
    assert events.counters("run") == {"oom_kill": 0}


def test_nothing_is_told_where_nothing_happens(events: CgroupEvents, told: list[str], tmp_path: Path) -> None:
    events.watch("run", cgroup(tmp_path / "chat.service", "oom_kill 0\n"))
    with select.epoll() as loop:
        loop.register(events.fileno(), select.EPOLLIN)
        assert loop.poll(0) == []
    events.drain()
    assert told == []
