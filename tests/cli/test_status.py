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

from support.command_line import environment, gpu_supervisor
from support.control_desk import StoryDesk, everything, serving, worker

STATUS_KEYS = [
    "version",
    "launcher",
    "taken_at",
    "uptime_s",
    "host",
    "gpus",
    "workers",
    "config",
    "config_refused",
    "gpu_missing",
    "dry_run",
    "history",
    "supervisor",
]
WORKER_KEYS = [
    "name",
    "phase",
    "pid",
    "unit",
    "age_s",
    "max_age_s",
    "restart_in_s",
    "memory_bytes",
    "memory_file_bytes",
    "memory_cap_bytes",
    "vram_bytes",
    "vram_cap_bytes",
    "vram_enforcement",
    "gpus",
    "restarts",
    "last_restart",
    "rung",
    "settings",
    "oom_events",
    "forecast_s",
    "held",
    "run",
    "waits_for",
    "done",
    "processes",
    "needs_memory_bytes",
    "needs_vram_bytes",
    "needs_prompt_cache_bytes",
    "needs_mapped_bytes",
    "reported",
    "restarts_by_cause",
    "missing",
]


def test_status_shows_every_worker(control: Path, desk: StoryDesk) -> None:
    del desk
    ran = gpu_supervisor("status", control=control)
    assert (ran.code, ran.err) == (0, "")
    assert "\x1b" not in ran.out
    assert ran.out.splitlines()[-2:] == [
        "chat    ready  17650  1m14s/1h  58m46s  2.27G/8G  5.1G/6G  0",
        "embed   ready  17650  1m14s/1h  58m46s  2.27G/8G  5.1G/6G  0",
    ]


def test_status_of_one_worker_shows_no_other(control: Path, desk: StoryDesk) -> None:
    del desk
    ran = gpu_supervisor("status", "embed", control=control)
    assert ran.code == 0
    assert "embed" in ran.out
    assert "chat" not in ran.out


def test_a_base_name_shows_all_its_replicas(control: Path) -> None:
    with serving(control, StoryDesk(everything(worker("chat-1"), worker("chat-2"), worker("chat-x")))):
        ran = gpu_supervisor("status", "chat", "--json", control=control)
    assert [each["name"] for each in json.loads(ran.out)["workers"]] == ["chat-1", "chat-2"]


def test_json_is_one_document_with_stable_keys(control: Path, desk: StoryDesk) -> None:
    del desk
    ran = gpu_supervisor("status", "--json", control=control)
    document = json.loads(ran.out)
    assert list(document) == STATUS_KEYS
    assert list(document["workers"][0]) == WORKER_KEYS
    assert document["workers"][0]["pid"] == 17650
    assert document["host"]["memory_total_bytes"] == 68719476736


def test_an_unknown_worker_is_4_and_the_nearest_is_named(control: Path, desk: StoryDesk) -> None:
    del desk
    ran = gpu_supervisor("status", "chta", control=control)
    assert (ran.code, ran.out) == (4, "")
    assert ran.err == "gpu-supervisor: cannot show status of chta: no worker is called 'chta'; 'chat' is\n"


def test_no_daemon_is_3(control: Path) -> None:
    ran = gpu_supervisor("status", control=control)
    assert ran.code == 3
    assert ran.err == (
        f"gpu-supervisor: cannot show status: the daemon is not running (nobody listens at {control})\n"
    )


def test_a_trouble_of_the_daemon_is_1_and_told(control: Path, desk: StoryDesk) -> None:
    desk.trouble = RuntimeError("on fire")
    ran = gpu_supervisor("status", control=control)
    assert (ran.code, ran.err) == (1, "gpu-supervisor: cannot show status: RuntimeError: on fire\n")


def test_the_socket_can_be_named_before_and_after_the_command(control: Path, desk: StoryDesk) -> None:
    del desk
    assert gpu_supervisor("--socket", str(control), "status").code == 0
    assert gpu_supervisor("status", "--socket", str(control)).code == 0


def test_json_and_watch_exclude_each_other(control: Path) -> None:
    ran = gpu_supervisor("status", "--json", "--watch", control=control)
    assert (ran.code, ran.err) == (
        2,
        "gpu-supervisor: cannot show status: --json is one document, --watch is many\n",
    )


def test_a_reader_that_has_gone_is_no_error(control: Path) -> None:
    many = [worker(f"worker-{index}") for index in range(3000)]
    with serving(control, StoryDesk(everything(*many))):
        shell = (
            f'"{sys.executable}" -m supervisor.cli.main status --json | head -1; echo "${{PIPESTATUS[0]}}"'
        )
        done = subprocess.run(
            ["/bin/bash", "-c", shell],
            env=environment(GPU_SUPERVISOR_CONTROL=str(control)),
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.stdout, done.stderr) == ("{\n141\n", "")


def test_a_state_too_large_for_one_read_arrives_whole(control: Path) -> None:
    many = [worker(f"worker-{index}") for index in range(1000)]
    with serving(control, StoryDesk(everything(*many))):
        ran = gpu_supervisor("status", "--json", control=control)
    assert len(json.loads(ran.out)["workers"]) == 1000


def test_watch_redraws_in_place_until_ctrl_c(control: Path, desk: StoryDesk) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor.cli.main", "status", "--watch"],
        env=environment(GPU_SUPERVISOR_CONTROL=str(control), TERM="xterm"),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    seen, deadline = b"", time.monotonic() + 20
    while seen.count(b"\x1b[H") < 2 and time.monotonic() < deadline:
        if select.select([leader], [], [], 1)[0]:
            seen += os.read(leader, 65536)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    os.close(leader)
    assert seen.startswith(b"\x1b[H")
    assert b"\x1b[32mready\x1b[0m" in seen
    assert b"Traceback" not in seen
    assert desk.shown >= 2


def test_a_field_of_a_newer_daemon_does_not_disturb(control: Path) -> None:
    class Newer(StoryDesk):
        def status(self) -> msgspec.Struct:  # type: ignore[override]
            plain = super().status()
            fields = [(name, object) for name in plain.__struct_fields__]
            made = msgspec.defstruct("NewerStatus", [*fields, ("from_the_future", int)])
            return made(*(getattr(plain, name) for name in plain.__struct_fields__), 5)

    with serving(control, Newer(everything(worker("chat")))):
        assert gpu_supervisor("status", control=control).code == 0
        document = json.loads(gpu_supervisor("status", "--json", control=control).out)
    assert document["from_the_future"] == 5
