import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from supervisor.act.direct import DirectLauncher
from supervisor.model.action import Signal
from supervisor.model.news import Exited, Launched, LaunchFailed
from supervisor.model.plan import MemoryCaps, NotifyTarget, WorkerPlan
from supervisor.sense.forest import Forest
from supervisor.sense.procfs import boot_id, environ_value
from support.launching import INSTANCE, Stage, alive, exists, hostile, noted, plan, play

NOBODY = 65534


async def _report(stage: Stage, wanted: WorkerPlan, to: Path, **more: object) -> dict[str, Any]:
    run = stage.launch(wanted, **more)
    await stage.told(Launched, run)
    await stage.until(to.exists, f"the report; told {stage.news}")
    return _loaded(to)


def _loaded(to: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(to.read_text())
    return found


def test_a_worker_is_told_as_launched_with_the_identity_of_its_process(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        run = stage.launch(plan("chat", *hostile("sleeper")))
        launched = await stage.told(Launched, run)
        assert launched.worker == "chat"
        assert alive(launched.identity.pid)
        assert environ_value(Path("/proc"), launched.identity.pid, "GPU_SUPERVISOR_RUN") == run
        assert launched.identity.boot_id == boot_id(Path("/proc"))

    play(tmp_path, scene)


def test_a_worker_leads_its_own_session_with_default_signals_and_no_stray_descriptor(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        inherited = os.open("/dev/null", os.O_RDONLY)
        os.set_inheritable(inherited, True)  # noqa: FBT003 - its signature
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        try:
            found = await _report(
                stage, plan("chat", *hostile("report", "--to", str(tmp_path / "r"))), tmp_path / "r"
            )
        finally:
            os.close(inherited)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        assert found["session_leader"] is True
        assert int(found["blocked"], 16) == 0
        python_ignores = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)  # the worker's own
        assert int(found["ignored"], 16) & ~python_ignores == 0
        assert found["umask"].strip() == "0022"
        assert found["descriptors"] == {
            "0": "/dev/null",
            "1": str(tmp_path / "log/chat.log"),
            "2": str(tmp_path / "log/chat.log"),
        }

    play(tmp_path, scene)


def test_signals_that_the_daemon_was_told_to_ignore_are_not_ignored_in_a_worker(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGQUIT, signal.SIG_IGN)

    async def scene(stage: Stage) -> None:
        to = tmp_path / "r"
        found = await _report(stage, plan("chat", *hostile("report", "--to", str(to))), to)
        assert int(found["ignored"], 16) & (1 << (signal.SIGQUIT - 1)) == 0

    try:
        play(tmp_path, scene)
    finally:
        signal.signal(signal.SIGQUIT, before)


def test_a_worker_sees_its_configuration_and_not_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "GPU_SUPERVISOR_CONTROL", "AWS_SECRET_KEY"):
        monkeypatch.setenv(name, "of the daemon")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    (tmp_path / "secrets").write_text("# a token\nTOKEN='a b'\nOVER=file\n")
    (tmp_path / "srv").mkdir()
    to = tmp_path / "r"
    wanted = plan(
        "chat",
        *hostile("report", "--to", str(to)),
        directory=str(tmp_path / "srv"),
        environment={"CTX": "{ctx}", "OVER": "plan", "GGML_CUDA_ENABLE_UNIFIED_MEMORY": "1"},
        environment_file=str(tmp_path / "secrets"),
        memory=MemoryCaps(cap_bytes=8 << 30),
        vram_cap_bytes=6 << 30,
        heartbeat_s=60.0,
        settings={"ctx": 4096},
    )

    async def scene(stage: Stage) -> None:
        found = await _report(stage, wanted, to, gpus=("GPU-1", "GPU-2"))
        seen = found["environment"]
        assert found["directory"] == str(tmp_path / "srv")
        assert seen.pop("GPU_SUPERVISOR_RUN").startswith(f"{INSTANCE}-chat-")
        assert seen.pop("PATH") == os.environ["PATH"]
        own = {"LC_CTYPE", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"}
        kept = {
            k: v
            for k, v in seen.items()
            if k not in own and not k.startswith(("XDG_", "NVIDIA_", "SSL_CERT_"))
        }
        kept.pop("LD_LIBRARY_PATH", None)
        assert kept == {
            "LC_ALL": "C.UTF-8",
            "CTX": "4096",
            "OVER": "file",
            "TOKEN": "a b",
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2",
            "GPU_SUPERVISOR_WORKER": "chat",
            "GPU_SUPERVISOR_MEMORY_CAP": "8589934592",
            "GPU_SUPERVISOR_VRAM_CAP": "6442450944",
            "NOTIFY_SOCKET": str(tmp_path / "run/notify/chat.sock"),
            "GPU_SUPERVISOR_SOCKET": str(tmp_path / "run/notify/chat.sock"),
            "WATCHDOG_USEC": "60000000",
        }

    play(tmp_path, scene)


def test_no_gpus_hides_every_gpu_and_no_choice_says_nothing(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        none = await _report(
            stage, plan("a", *hostile("report", "--to", str(tmp_path / "a"))), tmp_path / "a", gpus=()
        )
        free = await _report(
            stage, plan("b", *hostile("report", "--to", str(tmp_path / "b"))), tmp_path / "b", gpus=None
        )
        assert none["environment"]["CUDA_VISIBLE_DEVICES"] == ""
        assert "CUDA_VISIBLE_DEVICES" not in free["environment"]

    play(tmp_path, scene)


def test_settings_fill_the_command(tmp_path: Path) -> None:
    to = tmp_path / "r-17"
    wanted = plan("chat", *hostile("report", "--to", str(tmp_path / "r-{n}")), settings={"n": 17})

    async def scene(stage: Stage) -> None:
        assert (await _report(stage, wanted, to))["arguments"][-1] == str(to)

    play(tmp_path, scene)


def _oom_score_adj(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def _owner(path: Path) -> int:
    return path.stat().st_uid


def test_the_kernel_picks_a_worker_before_the_daemon(tmp_path: Path) -> None:
    mine = _oom_score_adj(os.getpid())

    async def scene(stage: Stage) -> None:
        run = stage.launch(plan("chat", *hostile("sleeper")))
        pid = (await stage.told(Launched, run)).identity.pid
        assert _oom_score_adj(pid) == min(1000, max(mine, 0) + 500)

    play(tmp_path, scene)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the user")
def test_a_worker_runs_as_its_user_with_its_groups_and_can_write_to_its_notify_socket(tmp_path: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents):
        if directory != Path("/tmp") and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o011)
    script = "id -u; id -g; id -G; echo $HOME $USER; test -w $NOTIFY_SOCKET && echo writable; sleep 100"
    wanted = plan("chat", "/bin/sh", "-c", script, user="nobody", ready=NotifyTarget())

    async def scene(stage: Stage) -> None:
        run = stage.launch(wanted)
        launched = await stage.told(Launched, run)
        log = tmp_path / "log/chat.log"
        await stage.until(lambda: log.read_text().count("\n") == 5, "what it says")
        assert log.read_text().splitlines() == [
            "65534",
            "65534",
            "65534",
            "/nonexistent nobody",
            "writable",
        ]
        assert _owner(log) == 0
        assert _owner(Path(f"/proc/{launched.identity.pid}")) == NOBODY
        stage.signal(run)
        assert (await stage.told(Exited, run)).signal == signal.SIGTERM

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (plan("w", "no-such-program"), "cannot run no-such-program: there is no such program in PATH"),
        (plan("w", "/no/such/file"), "cannot run /no/such/file: there is no such file"),
        (plan("w", "/etc/passwd"), "cannot run /etc/passwd: permission denied: it is not executable"),
        (plan("w", "sleep", "1", directory="/no/dir"), "cannot run in directory /no/dir: there is none"),
        (plan("w", "sleep", "1", user="no-such"), "cannot run as user no-such: there is no such user"),
        (plan("w", "sleep", "1", group="no-such"), "cannot run as group no-such: there is no such group"),
        (plan("w", "sleep", "{n}"), "cannot fill word 1 of its command: {n} names no setting"),
        (
            plan("w", "sleep", "1", environment={"A": "{n}"}),
            "cannot fill environment.A: {n} names no setting",
        ),
        (
            plan("w", "sleep", "1", environment_file="/no/file"),
            "cannot read environment_file /no/file: No such file or directory",
        ),
        (plan("w", "sleep", "a\0b"), "cannot run sleep: embedded null byte"),
    ],
)
def test_what_cannot_ever_run_is_hopeless_and_says_why(tmp_path: Path, wanted: WorkerPlan, why: str) -> None:
    async def scene(stage: Stage) -> None:
        run = stage.launch(wanted)
        (failed,) = stage.of(LaunchFailed, run)
        assert failed.why.startswith(why)
        assert failed.hopeless is True
        assert not list((tmp_path / "run/runs").iterdir())
        assert not list((tmp_path / "run/notify").iterdir())

    play(tmp_path, scene)


def test_a_script_whose_interpreter_is_missing_is_told_as_such(tmp_path: Path) -> None:
    script = tmp_path / "serve"
    script.write_text("#!/no/such/python\n")
    script.chmod(0o755)

    async def scene(stage: Stage) -> None:
        run = stage.launch(plan("w", str(script)))
        assert stage.of(LaunchFailed, run)[0].why == (
            f"cannot run {script}: the interpreter that it names is missing"
        )

    play(tmp_path, scene)


def test_an_exit_code_and_a_signal_are_told_as_they_were(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        ended = stage.launch(plan("a", *hostile("exit", "--code", "7")))
        crashed = stage.launch(plan("b", *hostile("exit", "--signal", str(int(signal.SIGSEGV)))))
        assert await stage.told(Exited, ended) == Exited("a", ended, code=7)
        assert await stage.told(Exited, crashed) == Exited("b", crashed, signal=signal.SIGSEGV)

    play(tmp_path, scene)


def test_an_ended_worker_leaves_no_zombie(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        run = stage.launch(plan("a", *hostile("exit")))
        pid = (await stage.told(Launched, run)).identity.pid
        await stage.told(Exited, run)
        assert not exists(pid)

    play(tmp_path, scene)


def test_a_signal_to_what_is_gone_has_no_effect(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        run = stage.launch(plan("a", *hostile("exit")))
        await stage.told(Exited, run)
        stage.signal(run)
        stage.kill(run)
        stage.launcher.signal(Signal("a", "never-launched", signal.SIGTERM, "a test"))

    play(tmp_path, scene)


def test_a_worker_that_obeys_only_the_second_signal_gets_it(tmp_path: Path) -> None:
    log = tmp_path / "pids"

    async def scene(stage: Stage) -> None:
        run = stage.launch(plan("a", *hostile("--log", str(log), "again")))
        await stage.until(lambda: "main" in noted(log), "it handles signals")
        stage.signal(run)
        await asyncio.sleep(0.05)
        assert stage.of(Exited, run) == []
        stage.signal(run)
        assert (await stage.told(Exited, run)).code == 0

    play(tmp_path, scene)


def test_two_lives_of_one_worker_never_run_at_once(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        first = stage.launch(plan("chat", *hostile("sleeper")))
        second = stage.launch(plan("chat", *hostile("sleeper")))
        assert stage.of(LaunchFailed, second) == [
            LaunchFailed("chat", second, f"cannot launch chat: its run {first} is alive", hopeless=False)
        ]
        assert len(stage.members(first)) == 1

    play(tmp_path, scene)


def test_a_worker_whose_grandchild_lives_on_is_not_launched_beside_it(tmp_path: Path) -> None:
    log = tmp_path / "pids"

    async def scene(stage: Stage) -> None:
        first = stage.launch(plan("chat", *hostile("--log", str(log), "double-fork", "--leave")))
        await stage.told(Exited, first)
        assert stage.members(first) == set(noted(log)["daemon"])
        second = stage.launch(plan("chat", *hostile("sleeper")))
        assert stage.of(LaunchFailed, second)[0].hopeless is False
        await stage.killed(first)
        stage.forget(first)
        third = stage.launch(plan("chat", *hostile("sleeper")))
        assert stage.of(Launched, third)

    play(tmp_path, scene)


def test_a_second_daemon_in_one_place_is_refused(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        with pytest.raises(BlockingIOError, match=r"cannot supervise from .*/run: another daemon does"):
            DirectLauncher(
                stage.places, Forest(), stage.news.append, asyncio.get_running_loop(), stage.warnings.append
            )

    play(tmp_path, scene)


def test_closing_leaves_workers_running(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        run = stage.launch(plan("chat", *hostile("sleeper")))
        pid = (await stage.told(Launched, run)).identity.pid
        stage.launcher.close()
        assert alive(pid)

    play(tmp_path, scene)
