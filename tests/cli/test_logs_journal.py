import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from support.command_line import environment, gpu_supervisor
from support.control_desk import StoryDesk

UNIT = "gpu-worker-chat.service"
# Answers as journalctl does, to the words of `logs` only.
JOURNALCTL = """#!/bin/sh
echo "$@" >>{asked}
case "$*" in
*_SYSTEMD_UNIT=gpu-worker-chat.service*) ;;
*) exit 0 ;;
esac
follow=
for word do
  case "$word" in
  --follow) follow=yes ;;
  --lines=*) tail -n "${{word#--lines=}}" {lines} ;;
  esac
done
test -z "$follow" || exec sleep 60
"""


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """What the unit of chat printed, for the journalctl in PATH."""
    (tmp_path / "bin").mkdir()
    path = tmp_path / "lines"
    path.write_text("one\ntwo\nthree\n")
    journalctl = tmp_path / "bin/journalctl"
    journalctl.write_text(JOURNALCTL.format(asked=tmp_path / "asked", lines=path))
    journalctl.chmod(0o755)
    return path


@pytest.fixture
def env(tmp_path: Path) -> Mapping[str, str]:
    return {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}


@pytest.fixture
def on_systemd(desk: StoryDesk) -> StoryDesk:
    """A daemon whose workers are units; it is asked for no file."""
    workers = tuple(
        msgspec.structs.replace(each, unit=f"gpu-worker-{each.name}.service") for each in desk.now.workers
    )
    desk.now = msgspec.structs.replace(desk.now, workers=workers)
    return desk


def test_a_unit_is_shown_from_its_journal(
    control: Path, on_systemd: StoryDesk, lines: Path, env: Mapping[str, str], tmp_path: Path
) -> None:
    del on_systemd, lines
    ran = gpu_supervisor("logs", "chat", "-n", "2", control=control, env=env)
    assert ran == (0, "two\nthree\n", "")
    assert (tmp_path / "asked").read_text().splitlines()[-1] == (
        f"--lines=2 --quiet --no-pager --output=cat _SYSTEMD_UNIT={UNIT} _SYSTEMD_UNIT=gpu-drain-chat.service"
    )


def test_a_unit_that_printed_nothing_is_said_so(
    control: Path, on_systemd: StoryDesk, lines: Path, env: Mapping[str, str]
) -> None:
    del on_systemd
    lines.write_text("")
    ran = gpu_supervisor("logs", "chat", control=control, env=env)
    assert ran == (0, "", "gpu-supervisor: chat has printed nothing yet\n")


def test_a_unit_is_followed_until_it_is_interrupted(
    control: Path, on_systemd: StoryDesk, lines: Path, env: Mapping[str, str], tmp_path: Path
) -> None:
    del on_systemd, lines
    output = tmp_path / "output"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.cli.main", "logs", "chat", "-f", "-n", "1"],
            env=environment(GPU_SUPERVISOR_CONTROL=str(control), **env),
            stdout=sink,
        )
    try:
        deadline = time.monotonic() + 20
        while output.read_text() != "three\n" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert output.read_text() == "three\n"
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == -signal.SIGINT


def test_without_journalctl_it_is_said(control: Path, on_systemd: StoryDesk, tmp_path: Path) -> None:
    del on_systemd
    ran = gpu_supervisor("logs", "chat", control=control, env={"PATH": str(tmp_path)})
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "gpu-supervisor: cannot show logs of chat: cannot read the journal:"
        f" there is no journalctl in {tmp_path}\n"
    )


def test_an_unknown_worker_of_a_daemon_on_systemd_is_4(
    control: Path, on_systemd: StoryDesk, env: Mapping[str, str]
) -> None:
    del on_systemd
    ran = gpu_supervisor("logs", "nobody", control=control, env=env)
    assert (ran.code, ran.err) == (
        4,
        "gpu-supervisor: cannot show logs of nobody: no worker is called 'nobody'\n",
    )


def test_a_dead_daemons_unit_can_still_be_read(tmp_path: Path, lines: Path, env: Mapping[str, str]) -> None:
    del lines
    nowhere = {
        **env,
        "LOGS_DIRECTORY": str(tmp_path / "logs"),
        "GPU_SUPERVISOR_CONTROL": str(tmp_path / "none"),
    }
    ran = gpu_supervisor("logs", "chat", "-n", "1", env=nowhere)
    assert ran == (0, "three\n", "gpu-supervisor: the daemon is not running; this is from its last run\n")
    assert gpu_supervisor("logs", "other", env=nowhere).code == 3


def test_an_empty_file_is_said_so(control: Path, desk: StoryDesk, tmp_path: Path) -> None:
    log = tmp_path / "chat.log"
    log.write_text("")
    desk.logs["chat"] = str(log)
    ran = gpu_supervisor("logs", "chat", control=control)
    assert ran == (0, "", "gpu-supervisor: chat has printed nothing yet\n")
    log.with_name("chat.log.1").write_text("older\n")
    assert gpu_supervisor("logs", "chat", control=control) == (0, "older\n", "")
