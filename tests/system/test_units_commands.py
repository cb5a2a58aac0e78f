"""`gpu-supervisor units` on a machine: what is written, what is removed, and what is left alone."""

from collections.abc import Iterator

import pytest

from support.vm.machine import Machine

AT = "/run/systemd/system"
CONFIG = "workers:\n  chat: {command: [sleep, '1000']}\n  embed: {command: [sleep, '1000']}\n"
CHAT_ALONE = "workers:\n  chat: {command: [sleep, '2000']}\n"
CHAT, EMBED, SLICE = (
    f"{AT}/gpu-worker-chat.service",
    f"{AT}/gpu-worker-embed.service",
    f"{AT}/gpu-workers.slice",
)


@pytest.fixture
def told(installed: Machine) -> Iterator[Machine]:
    """Return the machine with two workers configured and none running."""
    installed.put("/etc/gpu-supervisor/config.yaml", CONFIG)
    yield installed
    installed.run("systemctl stop 'gpu-worker-*.service'")


def units(machine: Machine, *words: str) -> list[str]:
    return machine.ok(["gpu-supervisor", "units", *words]).splitlines()


def test_units_are_applied_once_and_then_nothing_has_changed(told: Machine) -> None:
    assert units(told, "apply") == [f"wrote {SLICE}", f"wrote {CHAT}", f"wrote {EMBED}", "reloaded systemd"]
    assert told.ok("systemctl show --value -p LoadState gpu-worker-chat").strip() == "loaded"
    assert units(told, "apply") == ["nothing has changed"]


def test_a_unit_that_differs_is_written_and_one_that_runs_is_left(told: Machine) -> None:
    units(told, "apply")
    told.ok("systemctl start gpu-worker-embed")
    pid = told.ok("systemctl show --value -p MainPID gpu-worker-embed")
    told.put("/etc/gpu-supervisor/config.yaml", CHAT_ALONE)
    assert units(told, "apply") == [f"wrote {CHAT}", f"left {EMBED}: it is active", "reloaded systemd"]
    assert told.ok("systemctl show --value -p MainPID gpu-worker-embed") == pid
    told.ok("systemctl stop gpu-worker-embed")
    assert units(told, "apply") == [f"removed {EMBED}", "reloaded systemd"]
    assert told.ok("systemctl show --value -p LoadState gpu-worker-embed").strip() == "not-found"


def test_remove_takes_away_what_does_not_run(told: Machine) -> None:
    units(told, "apply")
    told.ok("systemctl start gpu-worker-chat")
    assert units(told, "remove") == [f"left {CHAT}: it is active", f"removed {EMBED}", "reloaded systemd"]
    told.ok("systemctl stop gpu-worker-chat")
    assert units(told, "remove") == [f"removed {CHAT}", f"removed {SLICE}", "reloaded systemd"]
    assert units(told, "remove") == ["nothing has changed"]
    assert told.ok(f"ls {AT}").split() == []


def test_render_shows_an_admin_s_drop_ins_as_systemctl_does(told: Machine) -> None:
    units(told, "apply")
    told.put("/etc/systemd/system/gpu-worker-chat.service.d/mine.conf", "[Service]\nNice=5\n")
    told.put("/etc/systemd/system/gpu-worker-.service.d/all.conf", "[Service]\nIOWeight=50\n")
    told.ok("systemctl daemon-reload")
    shown = told.ok("gpu-supervisor units render")
    assert told.ok("systemctl cat gpu-worker-chat.service") in shown
    assert "# /etc/systemd/system/gpu-worker-chat.service.d/mine.conf\n[Service]\nNice=5\n" in shown
    assert shown.count("# /etc/systemd/system/gpu-worker-.service.d/all.conf\n") == 2


@pytest.mark.parametrize("action", ["apply", "remove"])
def test_only_root_changes_units(told: Machine, action: str) -> None:
    done = told.run(["setpriv", "--reuid=65534", "--clear-groups", "gpu-supervisor", "units", action])
    assert (done.rc, done.err) == (1, f"gpu-supervisor: cannot {action} units: it needs root (use sudo)\n")
    assert done.out == ""


def test_a_wrong_configuration_changes_nothing(told: Machine) -> None:
    told.put("/etc/gpu-supervisor/config.yaml", "workers: {chat: {}}\n")
    done = told.run(["gpu-supervisor", "units", "apply"])
    assert done.rc == 78
    assert told.ok(f"ls {AT}").split() == []
