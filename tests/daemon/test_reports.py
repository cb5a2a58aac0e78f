"""A worker that uses the guard, under the real daemon: heard, shown, told, drained; strangers and floods."""

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from support.daemon import Daemon, alive, hostile

REPORTER = Path(__file__).parents[1] / "support" / "workers" / "reporter.py"
HEAD = """
poll_interval: 200ms
launcher: direct
host: {warn_available: 64M, critical_available: 32M}
defaults:
  restart: {first: 100ms, max: 500ms, starts: 100, within: 1h}
  stop_timeout: 5s
workers:
"""


def reporter(*words: str) -> str:
    """Return the `command:` of a worker that reports, as YAML flow."""
    return json.dumps([sys.executable, "-S", str(REPORTER), *words])


def started(daemon: Daemon, workers: str) -> Daemon:
    daemon.configure(HEAD + workers)
    daemon.start()
    return daemon


def heard(path: Path) -> list[Any]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def socket_of(daemon: Daemon, worker: str) -> str:
    return str(daemon.folder / "run" / "notify" / f"{worker}.sock")


def test_what_a_worker_reports_is_shown_and_it_is_told_how_things_stand(
    daemon: Daemon, tmp_path: Path
) -> None:
    command = reporter("--heard", str(tmp_path / "heard"), "--job", "night", "--ooms", "2")
    started(daemon, f"  one: {{command: {command}, ready: {{notify: true}}, memory: {{cap: 1G}}}}\n")
    one = daemon.until_worker("one", lambda one: one["phase"] == "ready" and one["reported"], "it reports")
    told = one["reported"]
    assert told["level"] == "high"
    assert told["memory"]["oom_events"] == 2
    assert told["memory"]["usage_percent"] == 80.5
    assert (told["progress"]["job"], told["progress"]["total"]) == ("night", 1000)
    assert (told["draining"], told["drained"]) == (False, False)
    assert 0 <= told["report_age_s"] < 5
    daemon.until(lambda: bool(heard(tmp_path / "heard")), "it is told")
    assert heard(tmp_path / "heard")[0] == {
        "v": 1,
        "host": "normal",
        "gpu": None,
        "advice": [],
        "drain": None,
    }
    table = " ".join(daemon.run("status").stdout.split())
    assert (
        "reports: memory high, 80% used; out of memory 2 times, 0 recovered; job night processing," in table
    )
    daemon.until(lambda: "goes on" in daemon.run("history", "one").stdout, "the history has it")
    events = [line["event"] for line in daemon.events() if line.get("worker") == "one"]
    assert events.count("worker memory high") == 1
    assert events.count("worker ran out of memory and goes on") == 1


def test_a_child_of_a_worker_may_speak_for_it(daemon: Daemon) -> None:
    started(daemon, f"  one: {{command: {reporter('--child')}, ready: {{notify: true}}}}\n")
    one = daemon.until_phase("one", "ready")
    assert one["processes"] == 2 or daemon.until_worker("one", lambda one: one["processes"] == 2, "both")


def test_beats_keep_a_worker_and_a_hang_restarts_it_though_it_goes_on_reporting(daemon: Daemon) -> None:
    rule = "ready: {notify: true}, heartbeat: 1s"
    started(
        daemon,
        f"  steady: {{command: {reporter()}, {rule}}}\n"
        f"  hung: {{command: {reporter('--beats', '5')}, {rule}}}\n",
    )
    steady = daemon.until_phase("steady", "ready")
    hung = daemon.until_worker("hung", lambda one: one["restarts"] >= 2, "it was restarted")
    assert hung["last_restart"]["cause"] == "heartbeat"
    assert daemon.worker("steady")["run"] == steady["run"]


def test_a_worker_is_drained_by_its_guard(daemon: Daemon, tmp_path: Path) -> None:
    command = reporter("--heard", str(tmp_path / "heard"), "--drain", "0.5")
    started(daemon, f"  one: {{command: {command}, drain: {{guard: true, timeout: 1min}}}}\n")
    daemon.until_worker("one", lambda one: one["reported"] is not None, "it reports")
    done = daemon.run("stop", "one", "--reason", "upgrade")
    assert done.returncode == 0, done.stderr
    assert {"reason": "upgrade", "within_s": 60.0} in [one["drain"] for one in heard(tmp_path / "heard")]
    events = [line["event"] for line in daemon.events() if line.get("worker") == "one"]
    assert events.index("worker draining") < events.index("worker stopping")
    [stopping] = [line for line in daemon.events() if line["event"] == "worker stopping"]
    assert stopping["reason"] == "upgrade"


def test_a_poisoned_worker_is_restarted_for_a_gpu_fault(daemon: Daemon) -> None:
    started(daemon, f"  one: {{command: {reporter('--poison', 'CUDA error: an illegal access')}}}\n")
    one = daemon.until_worker("one", lambda one: one["restarts"] >= 4, "it was restarted")
    assert one["last_restart"]["cause"] == "gpu-fault"
    assert {line["cause"] for line in daemon.events() if line["event"] == "worker exited"} == {"gpu-fault"}
    assert "CUDA error: an illegal access" in one["last_restart"]["reason"]


def test_another_process_of_the_same_user_is_ignored(daemon: Daemon) -> None:
    started(daemon, f"  one: {{command: {hostile('hang')}, ready: {{notify: true}}, start_timeout: 1min}}\n")
    daemon.until_phase("one", "starting")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b'{"v": 1, "ready": true, "level": "extreme"}', socket_of(daemon, "one"))
    daemon.until(lambda: f"pid {os.getpid()} is no process of it" in daemon.log(), "it is told")
    one = daemon.worker("one")
    assert (one["phase"], one["reported"]) == ("starting", None)


def test_a_flood_of_garbage_keeps_nobody_waiting(daemon: Daemon) -> None:
    started(
        daemon,
        f"  loud: {{command: {reporter('--rate', '0')}, heartbeat: 2s}}\n"
        f"  noisy: {{command: {hostile('notify-flood')}}}\n"
        f"  other: {{command: {hostile('sleeper')}}}\n",
    )
    loud = daemon.until_phase("loud", "ready")
    other = daemon.until_phase("other", "ready")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as stranger:
        stranger.connect(socket_of(daemon, "loud"))

        def again() -> bool:
            for _ in range(1000):
                for garbage in (b"{" * 4000, b'{"v": 9}', b'{"v": 1, "ready": 7}', os.urandom(3000)):
                    try:
                        stranger.send(garbage)
                    except OSError:
                        break
            one = daemon.worker("other")
            return bool(one["phase"] == "ready" and one["run"] != other["run"])

        os.kill(other["pid"], signal.SIGKILL)
        daemon.until(again, "the other is restarted")
    assert daemon.worker("loud")["run"] == loud["run"]


def test_words_and_reports_go_on_with_the_next_daemon(daemon: Daemon, tmp_path: Path) -> None:
    command = reporter("--heard", str(tmp_path / "heard"), "--ooms", "1", "--drain", "0")
    text = f"  one: {{command: {command}, heartbeat: 2s, drain: {{guard: true, timeout: 1min}}}}\n"
    started(daemon, text)
    before = daemon.until_worker("one", lambda one: one["reported"] is not None, "it reports")
    daemon.until(lambda: len(heard(tmp_path / "heard")) == 1, "it is told")
    daemon.kill()
    daemon.start()
    after = daemon.until_worker("one", lambda one: one["reported"] is not None, "it reports again")
    assert after["run"] == before["run"]
    assert alive(after["pid"])
    daemon.until(lambda: len(heard(tmp_path / "heard")) == 2, "it is told again")
    assert heard(tmp_path / "heard")[0] == heard(tmp_path / "heard")[1]
    events = [line["event"] for line in daemon.events()]
    assert events.count("worker ran out of memory and goes on") == 1
    assert daemon.run("stop", "one").returncode == 0
    assert heard(tmp_path / "heard")[2]["drain"]["within_s"] == 60.0
