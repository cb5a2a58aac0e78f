"""What a first review of the daemon found: each of these was once otherwise."""

import json
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from supervisor.daemon.keeper import Keeper
from supervisor.model.memory import GpuMemory, LastXid, Memory, WorkerMemory
from support.daemon import ROOT, Daemon, alive, hostile

HEAD = """
poll_interval: 200ms
launcher: direct
host: {warn_available: 64M, critical_available: 32M}
defaults:
  breach: {samples: 2, of: 3, warm_up: 0s}
  restart: {first: 100ms, max: 500ms, starts: 100, within: 1h}
  stop_timeout: 2s
workers:
"""


def started(daemon: Daemon, name: str = "one") -> int:
    """Start a daemon with one worker that sleeps; return the worker's pid."""
    command = hostile("--log", str(daemon.notes), "sleeper")
    daemon.configure(HEAD + f"  {name}: {{command: {command}, gpus: none}}\n")
    daemon.start()
    pid: int = daemon.until_phase(name, "ready")["pid"]
    return pid


def runtime(daemon: Daemon) -> Path:
    return daemon.folder / "run"


def test_a_worker_is_never_doubled_when_the_runtime_directory_is_lost_with_the_daemon(daemon: Daemon) -> None:
    before = started(daemon)
    daemon.kill()
    shutil.rmtree(runtime(daemon))
    daemon.start()
    after = daemon.until_phase("one", "ready")["pid"]
    assert after != before
    assert not alive(before)


def test_a_second_daemon_on_the_same_state_is_refused(daemon: Daemon) -> None:
    pid = started(daemon)
    second = daemon.environment | {"RUNTIME_DIRECTORY": str(daemon.folder / "elsewhere")}
    daemon.environment, first = second, daemon.environment
    refused = daemon.run("run", "--config", str(daemon.config))
    daemon.environment = first
    assert refused.returncode == 1
    assert "another" in refused.stderr
    assert alive(pid)


def test_a_worker_may_be_named_memory(daemon: Daemon) -> None:
    before = started(daemon, "memory")
    daemon.kill()
    daemon.start()
    assert daemon.until_phase("memory", "ready")["pid"] == before


def test_a_daemon_starts_when_what_the_history_kept_cannot_be_read(daemon: Daemon) -> None:
    started(daemon)
    assert daemon.stop() == 0
    shutil.rmtree(runtime(daemon))
    with closing(sqlite3.connect(daemon.folder / "state" / "history.db")) as db, db:
        done = db.execute("update kept set value = ? where key = 'worker/one'", (b'{"name":3}',))
        assert done.rowcount == 1
    daemon.start()
    daemon.until_phase("one", "ready")
    assert any("cannot read what the history kept of one" in str(event) for event in daemon.events())


def test_a_worker_whose_kept_file_is_not_text_is_started_once(daemon: Daemon) -> None:
    before = started(daemon)
    daemon.kill()
    (runtime(daemon) / "memory" / "one.json").write_bytes(b'{"name":"\xff\xfe"}')
    (runtime(daemon) / "runs" / "one.json").write_bytes(b'{"worker":"\xff\xfe"}')
    daemon.start()
    assert daemon.until_phase("one", "ready")["pid"] != before
    assert not alive(before)


def test_a_dry_run_beside_the_daemon_touches_nothing_and_ends_when_told(daemon: Daemon) -> None:
    pid = started(daemon)
    before = kept(daemon)
    command = [sys.executable, "-m", "supervisor", "run", "--dry-run", "--config", str(daemon.config)]
    with subprocess.Popen(command, cwd=ROOT, env=daemon.environment, stderr=subprocess.PIPE) as dry:
        assert dry.stderr is not None
        while (line := dry.stderr.readline()) and b"no gpu" not in line:
            pass
        dry.send_signal(signal.SIGTERM)
        said = dry.stderr.read().decode()
        assert dry.wait(15.0) == 0, said
    assert kept(daemon) == before
    assert daemon.worker("one")["pid"] == pid


def kept(daemon: Daemon) -> dict[str, bytes]:
    return {
        str(path.relative_to(runtime(daemon))): path.read_bytes()
        for path in sorted(runtime(daemon).rglob("*.json"))
    }


def test_a_reason_that_is_no_text_does_not_end_the_daemon(daemon: Daemon) -> None:
    started(daemon)
    call = {
        "method": "io.gpu-supervisor.Control.Ask",
        "parameters": {"wish": "restart", "workers": ["one"], "reason": "why \udcff"},
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5.0)
        client.connect(str(runtime(daemon) / "control"))
        client.sendall(json.dumps(call).encode() + b"\0")
        assert client.recv(4096) == b"{}\0"
    daemon.until_worker("one", lambda one: one["restarts"] == 1, "it was restarted")
    assert daemon.stop() == 0


def keeper(folder: Path) -> Keeper:
    return Keeper(folder / "memory", "this boot", lambda _: None)


def test_a_gpu_in_quarantine_stays_there_for_the_next_daemon(tmp_path: Path) -> None:
    first = keeper(tmp_path)
    first.begin(Memory("i"))
    first.keep(Memory("i", gpus={"GPU-a": GpuMemory(quarantine="held", residual_limit_bytes=7, hot=True)}))
    kept = keeper(tmp_path).load()
    assert kept is not None
    assert kept.memory.gpus == {"GPU-a": GpuMemory(quarantine="held", residual_limit_bytes=7)}


def test_the_xids_of_a_gpu_are_counted_on_by_the_next_daemon(tmp_path: Path) -> None:
    last = LastXid(13, "warp", 1.8e9, 99)
    first = keeper(tmp_path)
    first.begin(Memory("i"))
    first.keep(Memory("i", gpus={"GPU-a": GpuMemory(xids=2, last_xid=last), "GPU-b": GpuMemory(hot=True)}))
    kept = keeper(tmp_path).load()
    assert kept is not None
    assert kept.memory.gpus == {"GPU-a": GpuMemory(xids=2, last_xid=last)}


def test_what_could_not_be_written_is_written_once_it_can_be(tmp_path: Path) -> None:
    (tmp_path / "memory").write_text("in the way")
    first = keeper(tmp_path)
    memory = Memory("i", {"one": WorkerMemory("one", lives=3)})
    assert first.keep(memory) == [WorkerMemory("one", lives=3)]
    (tmp_path / "memory").unlink()
    first.begin(memory)
    assert first.keep(memory) == []  # it took no further step
    kept = keeper(tmp_path).load()
    assert kept is not None
    assert kept.memory.workers == {"one": WorkerMemory("one", lives=3)}


def test_a_worker_that_is_gone_at_the_first_turn_is_forgotten(tmp_path: Path) -> None:
    first = keeper(tmp_path)
    first.begin(Memory("i"))
    first.keep(Memory("i", {"one": WorkerMemory("one")}))
    second = keeper(tmp_path)
    second.load()
    second.keep(Memory("i"))
    kept = keeper(tmp_path).load()
    assert kept is not None
    assert kept.memory.workers == {}


def test_a_stop_asks_systemd_for_the_time_that_its_workers_may_take(daemon: Daemon, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10.0)
        daemon.environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        started(daemon)
        assert daemon.stop() == 0
        said: list[str] = []
        while not said or not said[-1].startswith("EXTEND_TIMEOUT_USEC="):
            said.append(manager.recv(4096).decode())
    assert said[-2:] == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=77000000"]  # stop_timeout 2s, and 75s
