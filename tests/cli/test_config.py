import json
from pathlib import Path

import pytest

from supervisor.daemon.control import ReloadResult
from support.command_line import gpu_supervisor
from support.control_desk import StoryDesk

GOOD = "workers:\n  chat:\n    command: [sleep, '1000']\n"
BAD = "poll_interval: soon\nworkers:\n  chat:\n    comand: [sleep]\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def test_a_good_configuration_is_0(config: Path) -> None:
    config.write_text(GOOD)
    ran = gpu_supervisor("check-config", str(config))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[-1] == f"{config}: good, 1 worker"


def test_a_wrong_configuration_is_78_with_every_fault(config: Path) -> None:
    config.write_text(BAD)
    ran = gpu_supervisor("check-config", str(config))
    assert ran.code == 78
    places = [line.split(": ")[0] for line in ran.out.splitlines()]
    assert f"{config}:1" in places
    assert f"{config}:4" in places
    assert ran.err == f"gpu-supervisor: cannot accept {config}: {len(places)} faults\n"


def test_a_missing_configuration_is_78(config: Path) -> None:
    ran = gpu_supervisor("check-config", str(config))
    assert (ran.code, ran.err) == (78, f"gpu-supervisor: cannot accept {config}: 1 fault\n")


def test_what_is_not_acted_on_yet_is_said_and_is_no_fault(config: Path) -> None:
    config.write_text(f"launcher: direct\n{GOOD}    memory: {{max: 9G}}\n")
    ran = gpu_supervisor("check-config", str(config))
    assert ran.code == 0
    assert "not acted on yet: " in ran.out


def test_what_a_preset_fills_in_is_shown(config: Path) -> None:
    config.write_text("workers: {chat: {preset: vllm, command: [sleep, '1000']}}\n")
    ran = gpu_supervisor("check-config", str(config))
    assert ran.code == 0
    assert "filled in by its preset: workers.chat.health.http: http://127.0.0.1:8000/health\n" in ran.out


def test_the_default_configuration_is_the_users(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(GOOD)
    ran = gpu_supervisor("check-config", env={"CONFIGURATION_DIRECTORY": str(tmp_path)})
    assert (ran.code, ran.out.splitlines()[-1]) == (0, f"{tmp_path}/config.yaml: good, 1 worker")


def test_the_schema_is_one_json_document() -> None:
    ran = gpu_supervisor("schema")
    assert ran.code == 0
    assert "workers" in ran.out
    assert isinstance(json.loads(ran.out), dict)


def test_reload_prints_what_changed(control: Path, desk: StoryDesk) -> None:
    desk.reloaded = ReloadResult(changes=("chat: memory.cap 8GiB -> 9GiB",), warnings=("c.yaml:3: odd",))
    ran = gpu_supervisor("reload", control=control)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "warning: c.yaml:3: odd\nchat: memory.cap 8GiB -> 9GiB\n"
    desk.reloaded = ReloadResult()
    assert gpu_supervisor("reload", control=control).out == "nothing has changed\n"


def test_a_refused_reload_is_78_with_every_fault(control: Path, desk: StoryDesk) -> None:
    desk.reloaded = ReloadResult(refused=("c.yaml:3: no", "c.yaml:4: never"))
    ran = gpu_supervisor("reload", control=control)
    assert (ran.code, ran.out) == (78, "c.yaml:3: no\nc.yaml:4: never\n")
    assert ran.err == "gpu-supervisor: cannot reload: 2 faults; the old configuration stays in force\n"


def test_a_check_as_json_is_one_document(config: Path) -> None:
    config.write_text(f"{GOOD}host: {{warn_available: 1P}}\n")
    ran = gpu_supervisor("check-config", "--json", str(config))
    found = json.loads(ran.out)
    [warning] = found["warnings"]
    assert (ran.code, ran.err) == (0, "")
    assert (warning["line"], warning["path"]) == (4, "host.warn_available")
    assert list(found) == ["file", "good", "workers", "faults", "warnings", "filled", "later"]
    assert (found["file"], found["good"], found["workers"]) == (str(config), True, ["chat"])
    assert (found["faults"], found["filled"], found["later"]) == ([], [], [])


def test_faults_as_json_are_78_too(config: Path) -> None:
    config.write_text("workers:\n  chat:\n    command: [sleep]\n    priority: high\n")
    ran = gpu_supervisor("check-config", "--json", str(config))
    found = json.loads(ran.out)
    assert (ran.code, found["good"], found["workers"]) == (78, False, [])
    [fault] = found["faults"]
    assert (fault["file"], fault["line"], fault["path"]) == (str(config), 4, "workers.chat.priority")
    assert ran.err == f"gpu-supervisor: cannot accept {config}: 1 fault\n"


def test_a_reload_as_json_is_one_document(control: Path, desk: StoryDesk) -> None:
    desk.reloaded = ReloadResult(changes=("worker chat: added",), warnings=("c.yaml:3: odd",))
    ran = gpu_supervisor("reload", "--json", control=control)
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == {
        "changes": ["worker chat: added"],
        "refused": [],
        "warnings": ["c.yaml:3: odd"],
    }
    desk.reloaded = ReloadResult(refused=("c.yaml:3: no",))
    ran = gpu_supervisor("reload", "--json", control=control)
    assert (ran.code, json.loads(ran.out)["refused"]) == (78, ["c.yaml:3: no"])
