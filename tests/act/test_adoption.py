import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from supervisor.act.identity import identify
from supervisor.act.runs import Run, Runs
from supervisor.act.sole import SoleOwner
from supervisor.model.memory import Life
from supervisor.model.news import Exited, LaunchFailed, Notified
from supervisor.model.plan import NotifyTarget
from supervisor.model.snapshot import Identity
from supervisor.sense.procfs import boot_id, environ_value
from support.launching import INSTANCE, Stage, alive, hostile, noted, plan, play

BOOT = boot_id(Path("/proc"))


def _doomed(directory: Path, *command: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "support.doomed", str(directory), INSTANCE, "chat", *command]
    paths = os.pathsep.join(str(path) for path in (Path(__file__).parents[2], Path(__file__).parents[1]))
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True)


def _kill(daemon: subprocess.Popen[str]) -> None:
    daemon.kill()
    daemon.communicate()


def _launched_and_killed(directory: Path, *command: str) -> tuple[Life, int]:
    """Have a daemon launch a worker and die; return the life that it remembered, and the pid."""
    daemon = _doomed(directory, *command)
    assert daemon.stdout is not None
    words = next(line for line in daemon.stdout if line.startswith("run ")).split()
    _kill(daemon)
    return _remembered(directory), int(words[3])


def _remembered(directory: Path) -> Life:
    return msgspec.json.decode((directory / "life.json").read_bytes(), type=Life)


def _marked(directory: Path) -> Mapping[int, str]:
    """Return the processes of the runs of the doomed daemons of a directory, by pid."""
    found: dict[int, str] = {}
    for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        run = environ_value(Path("/proc"), pid, "GPU_SUPERVISOR_RUN")
        if run is not None and _output(pid) == directory / "log/chat.log" and alive(pid):
            found[pid] = run
    return found


def test_a_worker_whose_daemon_was_killed_is_adopted_and_its_end_is_told(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        life, pid = life_and_pid
        found = await stage.adopt({"chat": life})
        assert found["chat"].pid == pid
        assert alive(pid)
        assert stage.news == []
        assert stage.members(life.run) == {pid}
        stage.signal(life.run)
        # Its status is known where the orphan was re-parented to this very process.
        assert await stage.told(Exited, life.run) in (
            Exited("chat", life.run),
            Exited("chat", life.run, signal=signal.SIGTERM),
        )

    life_and_pid = _launched_and_killed(tmp_path, *hostile("sleeper"))
    play(tmp_path, scene)


def test_an_adopted_worker_that_ignores_sigterm_is_killed_with_its_tree(tmp_path: Path) -> None:
    log = tmp_path / "pids"

    async def scene(stage: Stage) -> None:
        await stage.adopt({"chat": life})
        await stage.until(lambda: len(noted(log)) == 3, "its tree")
        pids = [pid for found in noted(log).values() for pid in found]
        assert set(pids) == stage.members(life.run)
        await stage.killed(life.run)
        assert [pid for pid in pids if alive(pid)] == []

    life, _ = _launched_and_killed(tmp_path, *hostile("--log", str(log), "grandchild"))
    play(tmp_path, scene)


def test_a_grandchild_that_outlived_its_main_process_is_found_and_killed(tmp_path: Path) -> None:
    log = tmp_path / "pids"

    async def scene(stage: Stage) -> None:
        assert await stage.adopt({"chat": life}) == {}
        assert stage.of(Exited, life.run) == [Exited("chat", life.run)]
        assert stage.members(life.run) == set(noted(log)["daemon"])
        await stage.killed(life.run)

    life, pid = _launched_and_killed(tmp_path, *hostile("--log", str(log), "double-fork", "--leave"))
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    play(tmp_path, scene)


def test_what_a_worker_says_after_adoption_is_heard(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.adopt({"chat": life})
        assert (await stage.told(Notified, life.run)).watchdog is True

    script = (
        "import os,socket,time\n"
        "while True:\n"
        "  time.sleep(0.05)\n"
        "  try: socket.socket(1,2).sendto(b'WATCHDOG=1', os.environ['NOTIFY_SOCKET'])\n"
        "  except OSError: pass\n"
    )
    life, _ = _launched_and_killed(tmp_path, sys.executable, "-c", script)
    play(tmp_path, scene)


@pytest.mark.parametrize("differs", ["start time", "boot", "pid"])
def test_what_is_not_provably_ours_is_left_alone(tmp_path: Path, differs: str) -> None:
    bystander = subprocess.Popen(["/bin/sleep", "100"])
    mine = identify(bystander.pid)
    almost = {
        "start time": Identity(BOOT, mine.pid, mine.start_ticks + 1),
        "boot": Identity("f0f0f0f0-0000-0000-0000-000000000000", mine.pid, mine.start_ticks),
        "pid": Identity(BOOT, 1 << 30, mine.start_ticks),
    }
    life = Life("test-chat-1", plan("chat", "sleep", "100"), 0.0, 0.0, identity=almost[differs])

    async def scene(stage: Stage) -> None:
        assert await stage.adopt({"chat": life}) == {}
        assert stage.news == [Exited("chat", "test-chat-1")]
        stage.signal(life.run, signal.SIGKILL)
        stage.kill(life.run)
        assert stage.launcher.strays() == {}
        assert alive(bystander.pid)

    try:
        play(tmp_path, scene)
        assert alive(bystander.pid)
    finally:
        bystander.kill()
        bystander.wait()


def test_a_life_that_was_never_started_is_told_as_failed(tmp_path: Path) -> None:
    life = Life("test-chat-1", plan("chat", "sleep", "100"), 0.0, 0.0)
    Runs(tmp_path / "run/runs").write(Run("chat", "test-chat-1"))

    async def scene(stage: Stage) -> None:
        assert await stage.adopt({"chat": life}) == {}
        assert stage.news == [
            LaunchFailed("chat", "test-chat-1", "the daemon ended before it was started", hopeless=False)
        ]

    play(tmp_path, scene)


def test_a_life_whose_record_has_no_identity_is_found_by_its_marker(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        Runs(tmp_path / "run/runs").write(Run("chat", life.run))
        assert (await stage.adopt({"chat": life}))["chat"].pid == pid

    life, pid = _launched_and_killed(tmp_path, *hostile("grandchild"))
    play(tmp_path, scene)


def test_a_damaged_record_is_as_none(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    (tmp_path / "chat.json").write_bytes(b'{"worker": "chat", "ru')
    assert runs.read("chat") is None
    assert runs.all() == {}


def test_a_record_is_for_its_owner_only(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")
    runs.write(Run("chat", "test-1", Identity(BOOT, 7, 8)))
    assert (tmp_path / "runs/chat.json").stat().st_mode & 0o777 == 0o600
    assert runs.all() == {"chat": Run("chat", "test-1", Identity(BOOT, 7, 8))}
    runs.remove("chat", "test-2")
    assert runs.read("chat") is not None
    runs.remove("chat", "test-1")
    assert runs.all() == {}


def test_a_run_that_nobody_remembers_is_a_stray_and_blocks_its_successor_until_it_is_killed(
    tmp_path: Path,
) -> None:
    async def scene(stage: Stage) -> None:
        await stage.adopt({})
        assert {run: {m.pid for m in members} for run, members in stage.launcher.strays().items()} == {
            life.run: {pid}
        }
        blocked = stage.launch(plan("chat", *hostile("sleeper")))
        assert stage.of(LaunchFailed, blocked) == [
            LaunchFailed(
                "chat",
                blocked,
                f"cannot launch chat: its run {life.run}, of an earlier daemon, is alive",
                hopeless=False,
            )
        ]
        assert stage.launcher.kill_strays() == 1
        await stage.until(lambda: not alive(pid), "it is gone")
        assert stage.launcher.strays() == {}

    life, pid = _launched_and_killed(tmp_path, *hostile("sleeper"))
    play(tmp_path, scene)


def test_processes_of_another_instance_are_no_strays(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["/bin/sleep", "100"], env={"GPU_SUPERVISOR_RUN": "other-chat-1"})

    async def scene(stage: Stage) -> None:
        assert stage.launcher.strays() == {}
        assert stage.launcher.kill_strays() == 0
        assert alive(stranger.pid)

    try:
        play(tmp_path, scene)
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("moment", [b"run", b"boot_id"], ids=["at its intent", "at its record"])
def test_however_often_the_daemon_is_killed_its_worker_runs_once(tmp_path: Path, moment: bytes) -> None:
    draw = random.Random(7)  # noqa: S311 - no secret
    for round_ in range(3):
        directory = tmp_path / str(round_)
        directory.mkdir()
        launching = _doomed(directory, "sleep", "1000")
        while moment not in _content(directory / "run/runs/chat.json"):
            assert launching.poll() is None
        _kill(launching)
        first = _settled(directory)
        adopting = _doomed(directory, "sleep", "1000")
        time.sleep(draw.uniform(0.1, 0.5))
        _kill(adopting)
        second = _settled(directory)
        assert first.items() <= second.items()
        life, pid = _launched_and_killed(directory, "sleep", "1000")
        assert _settled(directory) == {pid: life.run}
        assert second.items() <= {pid: life.run}.items()
        os.kill(pid, signal.SIGKILL)


def _settled(directory: Path) -> Mapping[int, str]:
    """Return what runs once no child of a killed daemon is between fork and exec."""
    SoleOwner(directory / "run").close()
    time.sleep(0.1)
    running = _marked(directory)
    assert len(running) <= 1
    return running


def _output(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/fd/1").readlink()
    except OSError:
        return None


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""


def test_a_notify_worker_is_ready_through_its_socket(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        run = stage.launch(plan("n", *hostile("notify", "--interval", "0.01"), ready=NotifyTarget()))
        await stage.until(lambda: any(news.ready for news in stage.of(Notified, run)), "READY=1")
        await stage.until(lambda: any(news.watchdog for news in stage.of(Notified, run)), "WATCHDOG=1")

    play(tmp_path, scene)
