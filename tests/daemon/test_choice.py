from pathlib import Path

import pytest
from msgspec.structs import replace

from supervisor.daemon.choice import CannotChooseError, Surroundings, caution, choose, look_around

SERVICE = Surroundings(systemd_is_init=True, cgroups_limit_memory=True, uid=0, is_system_service=True)
SHELL = replace(SERVICE, is_system_service=False)
CONTAINER = Surroundings(systemd_is_init=False, cgroups_limit_memory=True, uid=0, is_system_service=False)


@pytest.mark.parametrize(
    ("wanted", "around", "kind"),
    [
        ("auto", SERVICE, "systemd"),
        ("auto", SHELL, "direct"),
        ("auto", CONTAINER, "direct"),
        ("auto", replace(SERVICE, uid=1000), "direct"),
        ("auto", replace(SERVICE, cgroups_limit_memory=False), "direct"),
        ("systemd", SERVICE, "systemd"),
        ("systemd", SHELL, "systemd"),
        ("direct", SERVICE, "direct"),
    ],
)
def test_workers_are_services_where_the_supervisor_is_one(
    wanted: str, around: Surroundings, kind: str
) -> None:
    assert choose(wanted, around) == kind


@pytest.mark.parametrize(
    ("around", "why"),
    [
        (
            CONTAINER,
            "launcher systemd needs systemd as PID 1, which this machine has not; use direct or auto",
        ),
        (
            replace(SHELL, uid=1000),
            "launcher systemd needs root, and the supervisor runs as uid 1000; use direct or auto",
        ),
        (
            replace(SHELL, cgroups_limit_memory=False),
            "launcher systemd needs cgroup v2 with the controller memory; use direct or auto",
        ),
    ],
)
def test_systemd_is_refused_in_words_where_it_cannot_work(around: Surroundings, why: str) -> None:
    with pytest.raises(CannotChooseError) as refused:
        choose("systemd", around)
    assert str(refused.value) == why


def test_workers_in_the_supervisors_own_cgroup_are_warned_of() -> None:
    said = caution("direct", SERVICE)
    assert said is not None
    assert said.startswith("launcher direct in a system service: workers are in the service's own cgroup")
    assert caution("direct", SHELL) is None
    assert caution("systemd", SERVICE) is None


def test_a_machine_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    assert look_around({"INVOCATION_ID": "4f"}, 0, 1, tmp_path) == SERVICE
    assert look_around({"INVOCATION_ID": "4f"}, 0, 4711, tmp_path) == SHELL  # of a user's own systemd
    assert look_around({}, 0, 1, tmp_path) == SHELL
    empty = tmp_path / "empty"
    assert look_around({}, 7, 1, empty) == Surroundings(
        systemd_is_init=False, cgroups_limit_memory=False, uid=7, is_system_service=False
    )
