"""The history on disks that are full, read-only, damaged or gone."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.model.incident import WorkerRow
from support.histories import T0, history, in_mount_namespace, notice, wait_for

FULL_DISK = """
import asyncio, subprocess, sys
from pathlib import Path
from support.histories import T0, history, notice, wait_for
from supervisor.model.incident import WorkerRow

disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=True)
warnings = []

def ids(kept):
    return [one.id for one in asyncio.run(kept.incidents(None, None, 99))]

with history(disk / "history.db", warnings, retry_s=0.2) as kept:
    kept.keep("memory", b"before")
    kept.tell(notice("i0"), T0)
    assert kept.flush(5) and kept.state == "ok", kept.state
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    for number in range(1, 40):
        kept.tell(notice(f"i{number}", outcome="x" * 4000), T0 + number)
        kept.keep("memory", b"%d" % number * 2000)
        assert kept.flush(5)
    kept.tell(notice("i0", outcome="ended while the disk was full"), T0 + 99)
    kept.sample(T0, [WorkerRow("chat", 77)])
    assert kept.flush(5)
    assert kept.state == "in memory only: database or disk is full", kept.state
    assert len(warnings) == 1 and "database or disk is full" in warnings[0], warnings
    assert ids(kept) == [f"i{number}" for number in range(39, -1, -1)], ids(kept)
    assert asyncio.run(kept.incident("i0")).incident.outcome == "ended while the disk was full"

# A daemon that starts on the full disk still remembers.
second = []
with history(disk / "history.db", second, retry_s=0.2) as kept:
    assert kept.kept("memory") is not None
    found = ids(kept)
    assert "i0" in found, found

with history(disk / "history.db", warnings, retry_s=0.2) as kept:
    for number in range(1, 40):
        kept.tell(notice(f"i{number}", outcome="x" * 4000), T0 + number)
    kept.tell(notice("i0", outcome="ended while the disk was full"), T0 + 99)
    kept.sample(T0, [WorkerRow("chat", 77)])
    kept.keep("memory", b"latest")
    assert kept.flush(5) and kept.state != "ok", kept.state
    ballast.unlink()
    wait_for(lambda: kept.state == "ok")
    assert "on disk again" in warnings[-1], warnings

with history(disk / "history.db", warnings) as kept:
    assert kept.kept("memory") == b"latest"
    detail = asyncio.run(kept.incident("i0"))
    assert detail.incident.outcome == "ended while the disk was full"
    assert [s.row for s in detail.samples] == [WorkerRow("chat", 77)], detail.samples
    assert set(ids(kept)) == {f"i{number}" for number in range(40)}, ids(kept)
print("held")
"""

READ_ONLY = """
import asyncio, subprocess, sys
from pathlib import Path
from support.histories import T0, history, notice, wait_for

disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", disk], check=True)
killed = subprocess.run([sys.executable, "-c", '''
import os, signal, sys
from pathlib import Path
from support.histories import T0, history, notice
with history(Path(sys.argv[1])) as kept:
    kept.keep("memory", b"of the killed one")
    kept.tell(notice("i0"), T0)
    kept.flush(5)
    os.kill(os.getpid(), signal.SIGKILL)
''', str(disk / "history.db")])
assert killed.returncode == -9, killed
(disk / "history.db-shm").unlink()
subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
warnings = []
with history(disk / "history.db", warnings, retry_s=0.1) as kept:
    assert kept.kept("memory") == b"of the killed one"
    kept.tell(notice("i1"), T0 + 1)
    assert kept.flush(5)
    assert kept.state == "in memory only: Read-only file system", kept.state
    assert [one.id for one in asyncio.run(kept.incidents(None, None, 9))] == ["i1", "i0"]
    assert len(warnings) == 1 and "Read-only file system" in warnings[0], warnings
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    wait_for(lambda: kept.state == "ok")
    assert [one.id for one in asyncio.run(kept.incidents(None, None, 9))] == ["i1", "i0"]
print("held")
"""

LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from support.histories import T0, history, notice

resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))
warnings = []
with history(Path(sys.argv[1]), warnings, retry_s=60) as kept:
    for number in range(100):
        kept.tell(notice(f"i{number}", outcome="x" * 4000), T0 + number)
        assert kept.flush(5)
    assert kept.state.startswith("in memory only: "), kept.state
    assert len(warnings) == 1, warnings
    found = [one.id for one in asyncio.run(kept.incidents(None, None, 999))]
    assert found == [f"i{number}" for number in range(99, -1, -1)], found
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with history(Path(sys.argv[1]), warnings) as kept:
    found = [one.id for one in asyncio.run(kept.incidents(None, None, 999))]
    assert found == [f"i{number}" for number in range(99, -1, -1)], found
print("held")
"""

DAEMON_ON_READ_ONLY = """
import subprocess, sys
from pathlib import Path
from support.daemon import Daemon

folder = Path(sys.argv[1])
disk = folder / "disk"
disk.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "none", disk], check=True)
if sys.argv[2] == "was-used":
    (disk / "state" / "logs").mkdir(parents=True)
    (disk / "state" / "logs" / "chat.log").write_text("of an earlier life\\n" * 9)
subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
daemon = Daemon(folder, {"STATE_DIRECTORY": str(disk / "state")})
daemon.configure("workers: {chat: {command: [sh, -c, 'echo hello; exec sleep 1000'], memory: {cap: 1G}}}")
daemon.start()
try:
    first = daemon.until_phase("chat", "ready")
    assert daemon.run("restart", "chat").returncode == 0, daemon.log()
    assert daemon.worker("chat")["pid"] != first["pid"]
    assert daemon.status()["history"] == "in memory only: Read-only file system", daemon.status()
    assert daemon.run("history", "chat").stdout.count("ready again") == 1
    lost = f"what chat prints is lost: cannot write {disk}/state/logs/chat.log: Read-only file system"
    assert daemon.log().count(lost) == 2, daemon.log()
finally:
    daemon.close()
print("held")
"""


@pytest.mark.parametrize("disk", ["was-used", "is-new"])
def test_a_daemon_on_a_read_only_disk_runs_its_workers_and_says_what_is_lost(
    disk: str, tmp_path: Path
) -> None:
    ended = in_mount_namespace(DAEMON_ON_READ_ONLY, str(tmp_path), disk)
    if ended is None:
        pytest.skip("mounting is not allowed here")
    assert (ended.stdout, ended.returncode) == ("held\n", 0), ended.stderr


@pytest.mark.parametrize("script", [FULL_DISK, READ_ONLY], ids=["full", "read-only"])
def test_a_disk_that_takes_nothing_costs_no_incident(script: str, tmp_path: Path) -> None:
    ended = in_mount_namespace(script, str(tmp_path))
    if ended is None:
        pytest.skip("mounting is not allowed here")
    assert (ended.stdout, ended.returncode) == ("held\n", 0), ended.stderr


def test_a_limit_on_the_size_of_files_is_a_full_disk(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error", "-c", LIMITED, str(tmp_path / "history.db")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50, env=environ)
    assert (ended.stdout, ended.returncode) == ("held\n", 0), ended.stderr


def test_a_place_where_nothing_can_be_made_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    warnings: list[str] = []
    path = tmp_path / "file" / "state" / "history.db"
    with history(path, warnings, retry_s=0.05) as kept:
        kept.tell(notice("i"), T0)
        kept.keep("memory", b"x")
        assert kept.flush(5)
        assert [one.id for one in asyncio.run(kept.incidents(None, None, 9))] == ["i"]
        assert kept.state == "in memory only: Not a directory"
        (tmp_path / "file").unlink()
        wait_for(lambda: kept.state == "ok")
    assert warnings == [
        f"cannot write the history to {path}: Not a directory; it is kept in memory until that works",
        f"the history is on disk again: {path}",
    ]
    with history(path) as kept:
        assert kept.kept("memory") == b"x"


def test_a_file_that_is_no_database_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    path.write_bytes(b"this is no database at all, however one looks at it\n" * 100)
    warnings: list[str] = []
    with history(path, warnings) as kept:
        kept.tell(notice("i"), T0)
        assert kept.flush(5)
        assert kept.state == "ok"
        assert [one.id for one in asyncio.run(kept.incidents(None, None, 9))] == ["i"]
    aside = tmp_path / "history.db.corrupt-20270115T080000Z"
    assert aside.read_bytes().startswith(b"this is no database")
    assert len(warnings) == 1
    assert "file is not a database; it is now history.db.corrupt-20270115T080000Z" in warnings[0]


def test_damage_in_the_middle_of_a_file_is_found_and_what_is_kept_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with history(path) as kept:
        kept.keep("memory", b"precious")
        for number in range(300):
            kept.tell(notice(f"i{number}"), T0 + number)
    with sqlite3.connect(path) as inside:
        root = inside.execute("SELECT rootpage FROM sqlite_master WHERE name = 'incidents'").fetchone()[0]
    inside.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    warnings: list[str] = []
    with history(path, warnings) as kept:
        kept.tell(notice("new"), T0)
        assert kept.flush(5)
        assert kept.kept("memory") == b"precious"
        assert kept.state == "ok"
        assert [one.id for one in asyncio.run(kept.incidents(None, None, 9))] == ["new"]
    assert len(list(tmp_path.glob("history.db.corrupt-*Z"))) == 1
    assert len(warnings) == 1
    with history(path) as kept:
        assert kept.kept("memory") == b"precious"


def test_a_file_removed_under_the_daemon_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with history(path, retry_s=0.05) as kept:
        kept.keep("memory", b"precious")
        assert kept.flush(5)
        for entry in tmp_path.iterdir():
            entry.unlink()
        wait_for(path.exists)
        wait_for(lambda: kept.state == "ok")
    with history(path) as kept:
        assert kept.kept("memory") == b"precious"


def test_a_writer_that_is_killed_leaves_a_history_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    script = """
import itertools, sys
from pathlib import Path
from support.histories import T0, history, notice
with history(Path(sys.argv[1])) as kept:
    for number in itertools.count():
        kept.tell(notice(f"i{number}"), T0 + number)
        kept.keep("memory", b"%d" % number)
        kept.flush(5)
        print(number, flush=True)
"""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(3):
        path.unlink(missing_ok=True)
        with subprocess.Popen(
            [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True, env=environ
        ) as writer:
            assert writer.stdout is not None
            said = 0
            while said < 100:
                said = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            said = [said, *map(int, writer.stdout)][-1]
        with history(path) as kept:
            value = kept.kept("memory")
            assert value is not None
            assert int(value) >= said
            found = asyncio.run(kept.incidents(None, None, 9999))
            assert len(found) >= said + 1
            assert kept.state == "ok"


def test_a_database_that_another_holds_locked_is_written_later(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with history(path, retry_s=0.1) as kept:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        kept.tell(notice("i"), T0)
        kept.sample(T0, [WorkerRow("chat", 1)])
        wait_for(lambda: kept.state == "in memory only: database is locked")
        other.execute("ROLLBACK")
        other.close()
        wait_for(lambda: kept.state == "ok")
        detail = asyncio.run(kept.incident("i"))
        assert detail is not None
        assert [sample.row for sample in detail.samples] == [WorkerRow("chat", 1)]


def test_a_disk_that_hangs_costs_samples_first_and_never_the_loop() -> None:
    from supervisor.daemon.history_mailbox import Mailbox  # noqa: PLC0415
    from supervisor.daemon.history_store import Attached, Sampled  # noqa: PLC0415

    mailbox = Mailbox()  # nobody takes from it
    for number in range(100):
        mailbox.put_samples(Sampled(T0 + number, ()))
    assert mailbox.dropped == 36
    for number in range(4097):
        mailbox.put(Attached(f"i{number}", ()))
    mailbox.put_kept("memory", b"first")
    mailbox.put_kept("memory", b"last")
    assert mailbox.dropped == 36 + 64 + 1
    assert not mailbox.wait_empty(0.01)
    batch = mailbox.take(1.0)
    assert batch is not None
    assert (len(batch.events), len(batch.samples), batch.kept) == (4096, 0, {"memory": b"last"})
    assert batch.events[0] == Attached("i1", ())
