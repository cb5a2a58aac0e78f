import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from supervisor.cli.wishes import resolve
from supervisor.model.status import Status
from support.command_line import environment, gpu_supervisor
from support.control_desk import StoryDesk, everything, serving, worker

RESTART = [
    worker("chat", "draining", run="chat-1"),
    worker("chat", "stopping", run="chat-1"),
    worker("chat", "waiting", waits_for="GPU 0 to be free"),
    worker("chat", "starting", run="chat-2"),
    worker("chat", "ready", run="chat-2", pid=18000),
]


def test_restart_waits_for_the_new_life_and_shows_each_change(control: Path) -> None:
    desk = StoryDesk(everything(worker("chat"), worker("embed")), {"chat": RESTART})
    with serving(control, desk):
        ran = gpu_supervisor("restart", "chat", "--reason", "new model", "--now", control=control)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "chat  draining",
        "chat  stopping",
        "chat  waiting: GPU 0 to be free",
        "chat  starting",
        "chat  ready, pid 18000",
    ]
    (asked,) = desk.asked
    assert (asked.wish, asked.workers, asked.now, asked.reason) == ("restart", ("chat",), True, "new model")


def test_a_worker_that_ends_up_held_is_1_with_the_reason(control: Path) -> None:
    story = [worker("chat", "starting"), worker("chat", "held", held="5 starts within 10min")]
    with serving(control, StoryDesk(everything(worker("chat", "stopped")), {"chat": story})):
        ran = gpu_supervisor("start", "chat", control=control)
    assert ran.code == 1
    assert ran.out.splitlines() == ["chat  starting", "chat  held: 5 starts within 10min"]
    assert ran.err == "gpu-supervisor: cannot start chat: held: 5 starts within 10min\n"


def test_stop_waits_until_all_are_stopped(control: Path) -> None:
    story = {
        "chat": [worker("chat", "stopping"), worker("chat", "stopped")],
        "embed": [worker("embed", "stopping"), worker("embed", "stopping"), worker("embed", "stopped")],
    }
    desk = StoryDesk(everything(worker("chat"), worker("embed")), story)
    with serving(control, desk):
        ran = gpu_supervisor("stop", "--all", control=control)
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "chat   stopping",
        "embed  stopping",
        "chat   stopped",
        "embed  stopped",
    ]
    assert desk.asked[0].workers == ("chat", "embed")


def test_the_end_of_a_wish_as_json_is_one_document(control: Path) -> None:
    story = {
        "chat": [worker("chat", "starting"), worker("chat", "ready", pid=18000)],
        "embed": [worker("embed", "held", held="5 starts within 10min")],
    }
    both = everything(worker("chat", "stopped"), worker("embed", "stopped"))
    with serving(control, StoryDesk(both, story)):
        ran = gpu_supervisor("start", "chat", "embed", "--json", control=control)
    assert json.loads(ran.out) == {
        "wish": "start",
        "workers": [
            {"name": "chat", "good": True, "text": "ready, pid 18000"},
            {"name": "embed", "good": False, "text": "held: 5 starts within 10min"},
        ],
    }
    assert ran.code == 1
    assert ran.err == "gpu-supervisor: cannot start embed: held: 5 starts within 10min\n"


def test_what_nobody_waits_for_is_neither_good_nor_bad_in_json(control: Path, desk: StoryDesk) -> None:
    ran = gpu_supervisor("stop", "chat", "--no-wait", "--json", control=control)
    assert (ran.code, json.loads(ran.out)) == (
        0,
        {"wish": "stop", "workers": [{"name": "chat", "good": None, "text": "stop asked for: chat"}]},
    )
    assert desk.asked[0].workers == ("chat",)


def test_reset_waits_until_the_worker_is_no_longer_held(control: Path) -> None:
    held = worker("chat", "held", held="too many starts")
    with serving(control, StoryDesk(everything(held), {"chat": [held, worker("chat", "waiting")]})):
        ran = gpu_supervisor("reset", "chat", control=control)
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "chat  released, waiting")


def test_no_wait_returns_at_once(control: Path, desk: StoryDesk) -> None:
    ran = gpu_supervisor("restart", "chat", "embed", "--no-wait", control=control)
    assert (ran.code, ran.out) == (0, "restart asked for: chat, embed\n")
    assert desk.asked[0].workers == ("chat", "embed")


def test_an_unknown_name_is_4_and_nothing_is_asked(control: Path, desk: StoryDesk) -> None:
    ran = gpu_supervisor("stop", "chat", "nobody", control=control)
    assert ran.code == 4
    assert ran.err == "gpu-supervisor: cannot stop chat, nobody: no worker is called 'nobody'\n"
    assert desk.asked == []


def test_a_worker_that_is_removed_meanwhile_is_said_so(control: Path) -> None:
    class Removing(StoryDesk):
        def status(self) -> Status:
            found = super().status()
            return msgspec.structs.replace(found, workers=()) if self.asked else found

    with serving(control, Removing(everything(worker("chat")))):
        ran = gpu_supervisor("restart", "chat", control=control)
    assert ran.err == "gpu-supervisor: cannot restart chat: it is no longer in the configuration\n"
    assert ran.code == 1


def test_a_dry_run_is_not_waited_for(control: Path) -> None:
    status = msgspec.structs.replace(everything(worker("chat")), dry_run=True)
    with serving(control, StoryDesk(status)):
        ran = gpu_supervisor("restart", "chat", control=control)
    assert (ran.code, ran.out) == (
        0,
        "the daemon runs with --dry-run: it decides and logs, and nothing is done\n",
    )


@pytest.mark.parametrize(
    "words",
    [("restart",), ("restart", "chat", "--all"), ("start", "chat", "--now"), ("stop", "chat", "--nwo")],
)
def test_a_wrong_command_line_is_2_in_one_line(control: Path, words: tuple[str, ...]) -> None:
    ran = gpu_supervisor(*words, control=control)
    assert ran.code == 2
    assert ran.err.startswith("gpu-supervisor: cannot understand the command line: ")
    assert len(ran.err.splitlines()) == 1


def test_ctrl_c_ends_the_waiting_only(control: Path, desk: StoryDesk) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor.cli.main", "restart", "chat"],
        env=environment(GPU_SUPERVISOR_CONTROL=str(control)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 20
    while desk.shown < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert err == "gpu-supervisor: no longer waiting; the daemon carries on\n"


def test_a_daemon_that_goes_away_meanwhile_is_3(control: Path) -> None:
    with serving(control, StoryDesk(everything(worker("chat")))) as desk:
        process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.cli.main", "restart", "chat"],
            env=environment(GPU_SUPERVISOR_CONTROL=str(control)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 20
        while desk.shown < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 3
    assert err.startswith("gpu-supervisor: cannot restart chat: the daemon went away")
    assert len(err.splitlines()) == 1


def test_a_terminal_sees_one_live_line_for_each_worker(control: Path) -> None:
    desk = StoryDesk(everything(worker("chat")), {"chat": RESTART})
    leader, follower = pty.openpty()
    with serving(control, desk):
        process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.cli.main", "restart", "chat"],
            env=environment(GPU_SUPERVISOR_CONTROL=str(control), TERM="xterm"),
            stdout=follower,
            stderr=follower,
        )
        os.close(follower)
        seen, deadline = b"", time.monotonic() + 20
        while b"18000" not in seen and time.monotonic() < deadline:
            if select.select([leader], [], [], 1)[0]:
                seen += os.read(leader, 65536)
        assert process.wait(10) == 0
    os.close(leader)
    frames = seen.decode().split("\x1b[1F")
    assert [frame.replace("\x1b[2K", "").strip() for frame in frames] == [
        "chat  draining",
        "chat  stopping",
        "chat  waiting: GPU 0 to be free",
        "chat  starting",
        "chat  \x1b[32mready, pid 18000\x1b[0m",
    ]


def test_a_name_means_the_worker_or_all_its_replicas() -> None:
    known = ["chat-1", "chat-2", "embed", "embed-1"]
    assert resolve(["chat"], known) == ("chat-1", "chat-2")
    assert resolve(["embed"], known) == ("embed",)
    assert resolve(["chat-2", "chat"], known) == ("chat-2", "chat-1")
    with pytest.raises(KeyError, match="cha"):
        resolve(["cha"], known)
