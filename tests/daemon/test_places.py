from pathlib import Path

import pytest

from supervisor.daemon.places import Places, find_places, make_places


def test_root_has_the_places_of_the_machine() -> None:
    assert find_places({"HOME": "/root", "XDG_RUNTIME_DIR": "/run/user/0"}, 0) == Places(
        runtime_dir=Path("/run/gpu-supervisor"),
        state_dir=Path("/var/lib/gpu-supervisor"),
        log_dir=Path("/var/lib/gpu-supervisor/logs"),
        control=Path("/run/gpu-supervisor/control"),
        config=Path("/etc/gpu-supervisor/config.yaml"),
    )


def test_a_user_has_the_xdg_places() -> None:
    environ = {
        "XDG_RUNTIME_DIR": "/run/user/1000",
        "XDG_STATE_HOME": "/s",
        "XDG_CONFIG_HOME": "/c",
        "HOME": "/h",
    }
    assert find_places(environ, 1000) == Places(
        runtime_dir=Path("/run/user/1000/gpu-supervisor"),
        state_dir=Path("/s/gpu-supervisor"),
        log_dir=Path("/s/gpu-supervisor/logs"),
        control=Path("/run/user/1000/gpu-supervisor/control"),
        config=Path("/c/gpu-supervisor/config.yaml"),
    )


def test_a_user_without_xdg_variables_has_the_defaults_of_the_home() -> None:
    found = find_places({"HOME": "/h"}, 1000)
    assert found.runtime_dir == Path("/tmp/gpu-supervisor-1000")
    assert found.state_dir == Path("/h/.local/state/gpu-supervisor")
    assert found.config == Path("/h/.config/gpu-supervisor/config.yaml")


def test_a_user_with_nothing_set_has_a_directory_under_tmp() -> None:
    found = find_places({}, 7)
    assert found.state_dir == Path("/tmp/gpu-supervisor-7/state")
    assert found.control == Path("/tmp/gpu-supervisor-7/control")
    assert found.config == Path("/etc/gpu-supervisor/config.yaml")


@pytest.mark.parametrize("uid", [0, 1000])
def test_what_systemd_sets_wins(uid: int) -> None:
    environ = {
        "HOME": "/h",
        "XDG_RUNTIME_DIR": "/x",
        "RUNTIME_DIRECTORY": "/run/a:/run/b",
        "STATE_DIRECTORY": "/var/lib/a",
        "LOGS_DIRECTORY": "/var/log/a",
        "CONFIGURATION_DIRECTORY": "/etc/a",
    }
    assert find_places(environ, uid) == Places(
        runtime_dir=Path("/run/a"),
        state_dir=Path("/var/lib/a"),
        log_dir=Path("/var/log/a"),
        control=Path("/run/a/control"),
        config=Path("/etc/a/config.yaml"),
    )


def test_the_control_socket_can_be_named_alone() -> None:
    found = find_places({"GPU_SUPERVISOR_CONTROL": "/somewhere/socket"}, 0)
    assert found.control == Path("/somewhere/socket")
    assert found.runtime_dir == Path("/run/gpu-supervisor")


def test_a_relative_path_is_ignored() -> None:
    assert find_places({"XDG_RUNTIME_DIR": "run", "HOME": "/h"}, 5).runtime_dir == Path(
        "/tmp/gpu-supervisor-5"
    )


def test_the_directories_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    environ = {"RUNTIME_DIRECTORY": str(tmp_path / "a/run"), "STATE_DIRECTORY": str(tmp_path / "b/state")}
    places = find_places(environ, 1000)
    make_places(places, 1000)
    make_places(places, 1000)
    modes = [path.stat().st_mode & 0o777 for path in (places.runtime_dir, places.state_dir, places.log_dir)]
    assert modes == [0o700, 0o700, 0o700]


def test_a_directory_of_someone_else_under_tmp_is_refused(tmp_path: Path) -> None:
    foreign_uid = tmp_path.stat().st_uid + 1
    taken = Path("/tmp") / f"gpu-supervisor-test-{foreign_uid}-{tmp_path.name}"
    taken.mkdir(mode=0o700)
    try:
        places = find_places({"RUNTIME_DIRECTORY": str(taken), "STATE_DIRECTORY": str(tmp_path)}, foreign_uid)
        with pytest.raises(PermissionError, match="it belongs to uid"):
            make_places(places, foreign_uid)
        taken.chmod(0o755)
        with pytest.raises(PermissionError, match="others may enter"):
            make_places(places, foreign_uid - 1)
    finally:
        taken.rmdir()


def test_a_link_under_tmp_is_refused(tmp_path: Path) -> None:
    link = Path("/tmp") / f"gpu-supervisor-test-link-{tmp_path.name}"
    link.symlink_to(tmp_path)
    try:
        places = find_places({"RUNTIME_DIRECTORY": str(link), "STATE_DIRECTORY": str(tmp_path)}, 1)
        with pytest.raises(PermissionError, match="is not a directory"):
            make_places(places, 1)
    finally:
        link.unlink()
