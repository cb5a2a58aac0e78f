import msgspec
import pytest

from supervisor.cli.status_table import render
from supervisor.model.report import MemoryReport, Progress
from supervisor.model.status import (
    HostStatus,
    LastRestartStatus,
    ReportedStatus,
    Status,
    WorkerStatus,
    XidStatus,
)
from support.control_desk import everything, worker


def table(status: Status, *, columns: int = 80, old_s: float = 0.0, colour: bool = False) -> str:
    lines = render(status, now_wall_s=1000.0 + old_s, taken_wall_s=1000.0, columns=columns, colour=colour)
    return "\n".join(lines)


RESTARTED = LastRestartStatus(
    "memory-cap", "8.1GiB of anonymous memory, cap 8GiB, 3 of 5 readings", "2026-11-21T02:30:00Z"
)


def test_everything_is_readable_in_80_columns() -> None:
    status = everything(
        worker("chat", restarts=2, last_restart=RESTARTED),
        worker("embed", "waiting", waits_for="chat to be ready"),
        worker("rerank", "held", held="5 starts within 10min", restarts=5),
        worker("old", "stopped"),
    )
    assert (
        table(status)
        == """\
gpu-supervisor 0.1.0, launcher direct, up 3m12s, /etc/gpu-supervisor/config.yaml
host    41G of 64G available, swap 0B used, stalled 0.0%, pressure normal
GPU 0   6G of 139G used, 3%, 40 C, 70 of 700 W, pressure normal
    NVIDIA H200, GPU-1

WORKER  PHASE    PID    AGE       LEFT    MEMORY    VRAM     RESTARTS
chat    ready    17650  1m14s/1h  58m46s  2.27G/8G  5.1G/6G  2
    last restart 2026-11-21T02:30:00Z: memory-cap, 8.1GiB of anonymous memory,
      cap 8GiB, 3 of 5 readings
embed   waiting  -      -         -       -         -        0
    waits for chat to be ready
rerank  held     -      -         -       -         -        5
    held: 5 starts within 10min
old     stopped  -      -         -       -         -        0"""
    )
    assert max(map(len, table(status).splitlines())) <= 80


def test_an_unknown_reading_is_a_question_mark_with_its_reason_below() -> None:
    why = "cannot read /proc/meminfo: gone"
    host = HostStatus(
        None, None, 0, "normal", None, {"memory_total_bytes": why, "memory_available_bytes": why}
    )
    chat = worker("chat", vram_bytes=None, missing={"vram_bytes": "the driver did not answer within 2s"})
    lines = table(msgspec.structs.replace(everything(chat), host=host)).splitlines()
    assert lines[1:3] == [
        "host    ? of ? available, swap 0B used, stalled ?, pressure normal",
        "    ? memory_total_bytes, memory_available_bytes: cannot read /proc/meminfo: gone",
    ]
    assert lines[-2:] == [
        "chat    ready  17650  1m14s/1h  58m46s  2.27G/8G  ?/6G  0",
        "    ? vram_bytes: the driver did not answer within 2s",
    ]


def test_throttling_and_xids_of_a_gpu_stand_below_it() -> None:
    status = everything()
    troubled = msgspec.structs.replace(
        status.gpus[0],
        throttle=("hw-slowdown", "hw-thermal"),
        xids=3,
        last_xid=XidStatus(31, "MMU Fault", "2026-11-21T02:30:00Z"),
    )
    lines = table(msgspec.structs.replace(status, gpus=(troubled,))).splitlines()
    assert lines[3:6] == [
        "    NVIDIA H200, GPU-1",
        "    throttled: hw-slowdown, hw-thermal",
        "    Xids: 3, the last 2026-11-21T02:30:00Z: 31, MMU Fault",
    ]


def test_a_long_name_stands_above_its_row() -> None:
    long = worker(
        "a-very-long-name-of-a-worker-that-one-chose",
        "reclaiming",
        pid=4194303,
        age_s=86399.0,
        memory_bytes=999 << 20,
        restarts=12,
    )
    lines = table(everything(long)).splitlines()[-3:]
    assert lines == [
        "WORKER  PHASE       PID      AGE        LEFT  MEMORY   VRAM  RESTARTS",
        "a-very-long-name-of-a-worker-that-one-chose",
        "    reclaiming  4194303  23h59m/1h  -     999M/8G  -     12",
    ]


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"dry_run": True}, "! --dry-run: nothing that it decides is done"),
        ({"config_refused": "c.yaml:3: no"}, "! the last reload was refused: c.yaml:3: no"),
        ({"history": "in memory only: the disk is full"}, "! history in memory only: the disk is full"),
        ({"gpu_missing": "no NVIDIA driver"}, "GPU     none is watched: no NVIDIA driver"),
        ({"workers": ()}, "no workers are configured"),
    ],
)
def test_what_is_out_of_the_ordinary_is_said(fields: dict[str, object], line: str) -> None:
    assert line in table(msgspec.structs.replace(everything(worker("chat")), **fields)).splitlines()


def test_an_old_state_is_said_to_be_old() -> None:
    assert "! this is 1m40s old: the daemon's loop does not turn" in table(everything(), old_s=100.0)
    assert "old" not in table(everything(), old_s=5.0)


def test_a_gpu_in_trouble_says_so() -> None:
    status = everything()
    gpu = msgspec.structs.replace(
        status.gpus[0],
        state="hung",
        quarantine="no answer for 10s",
        memory_used_bytes=None,
        power_w=None,
        read_age_s=75.0,
        missing={"memory_used_bytes": "no answer", "power_w": "no answer"},
    )
    assert table(msgspec.structs.replace(status, gpus=(gpu,))).splitlines()[2:7] == [
        "GPU 0   ? of 139G used, 3%, 40 C, ? of 700 W, pressure normal",
        "    NVIDIA H200, GPU-1",
        "    state hung",
        "    quarantined: no answer for 10s",
        "    read 1m15s ago",
    ]


def test_a_job_that_is_done_is_said_so_and_how_it_is_run_again() -> None:
    done = worker("job", "stopped", done="exited with status 0 after 3.0 s")
    assert table(everything(done)).splitlines()[-2:] == [
        "    done: exited with status 0 after 3.0 s; `gpu-supervisor start job` runs it",
        "      again",
    ]


def test_what_a_worker_wrote_cannot_steer_the_terminal() -> None:
    held = worker("chat", "held", held="bad \x1b[2J\r\nnews")
    assert table(everything(held)).splitlines()[-1].split() == ["held:", "bad", "[2J", "news"]
    assert "\x1b" not in table(everything(held))
    assert "\r" not in table(everything(held))


def test_colour_shows_the_phase() -> None:
    lines = table(everything(worker("chat"), worker("bad", "held", held="why")), colour=True)
    assert "\x1b[32mready\x1b[0m" in lines
    assert "\x1b[31mheld \x1b[0m" in lines
    assert "\x1b[31m    held: why\x1b[0m" in lines


def test_a_worker_without_caps_shows_what_it_uses() -> None:
    free = worker("chat", memory_cap_bytes=None, vram_cap_bytes=None, max_age_s=None, restart_in_s=None)
    assert table(everything(free)).splitlines()[-1] == "chat    ready  17650  1m14s  -     2.27G   5.1G  0"


def test_every_phase_has_a_row() -> None:
    phases = [
        "stopped",
        "waiting",
        "starting",
        "ready",
        "draining",
        "stopping",
        "killing",
        "reclaiming",
        "held",
    ]
    workers: list[WorkerStatus] = [worker(f"w{index}", phase) for index, phase in enumerate(phases)]
    text = table(everything(*workers))
    assert [line.split()[1] for line in text.splitlines()[-9:]] == phases


def test_where_no_gpu_is_watched_that_is_said_once() -> None:
    chat = worker("chat", vram_bytes=None, missing={"vram_bytes": "no GPU"})
    status = msgspec.structs.replace(everything(chat), gpus=(), gpu_missing="no NVIDIA driver")
    assert table(status).splitlines()[2:] == [
        "GPU     none is watched: no NVIDIA driver",
        "",
        "WORKER  PHASE  PID    AGE       LEFT    MEMORY    VRAM  RESTARTS",
        "chat    ready  17650  1m14s/1h  58m46s  2.27G/8G  -     0",
    ]


def test_what_a_worker_reports_of_itself_is_one_line_below_its_row() -> None:
    told = ReportedStatus(
        level="critical",
        memory=MemoryReport(usage_percent=91.4, oom_events=3, recoveries=2, degradation_level=1),
        advice=None,
        progress=Progress(job="ni\x1bght", done=40, total=100, eta_s=75.0),
        batches=None,
        draining=True,
        drained=False,
        report_age_s=12.0,
    )
    lines = table(everything(worker("chat", reported=told)), columns=200)
    assert (
        "    reports: memory critical, 91% used; out of memory 3 times, 2 recovered; degraded 1 times;"
        " job ni ght processing, 40 of 100, 1m15s left; draining; 12s ago" in lines
    )
    little = ReportedStatus(None, None, None, None, None, draining=True, drained=True, report_age_s=0.0)
    assert "    reports: memory ?; drained\n" in table(everything(worker("chat", reported=little))) + "\n"
