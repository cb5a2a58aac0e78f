import asyncio
import os
import signal
from pathlib import Path

import pytest

from supervisor.act.identity import hold, hold_started, identify
from supervisor.act.tree_kill import kill_member, kill_tree
from supervisor.model.news import Exited, Launched
from supervisor.model.snapshot import Identity
from supervisor.sense.forest import Member
from supervisor.sense.procfs import boot_id, read_stat
from support.launching import (
    Stage,
    alive,
    exists,
    exit_code,
    hostile,
    noted,
    plan,
    play,
    start,
    wait_unreaped,
)


@pytest.mark.parametrize(
    ("mode", "parts"),
    [
        (("ignore-term",), {"main"}),
        (("grandchild",), {"main", "setsid", "child"}),
        (("double-fork",), {"main", "daemon"}),
        (("double-fork", "--leave"), {"main", "daemon"}),
        (("wipe",), {"main", "hang"}),
        (("rename",), {"main"}),
    ],
    ids=" ".join,
)
def test_killing_a_tree_leaves_nothing_of_it(tmp_path: Path, mode: tuple[str, ...], parts: set[str]) -> None:
    log = tmp_path / "pids"

    async def scene(stage: Stage) -> None:
        run = stage.launch(plan("w", *hostile("--log", str(log), *mode)))
        await stage.until(lambda: noted(log).keys() == parts, f"{parts}")
        pids = [pid for found in noted(log).values() for pid in found]
        await stage.killed(run)
        await stage.told(Exited, run)
        stage.launcher.reap_orphans()
        assert [pid for pid in pids if alive(pid)] == []

    play(tmp_path, scene)


def test_processes_that_run_away_by_forking_are_all_killed(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        run = stage.launch(plan("w", *hostile("bomb", "--count", "8")))
        await stage.until(lambda: len(stage.members(run)) > 3, "it forks")

        def nothing_left() -> bool:
            stage.kill(run)
            stage.launcher.reap_orphans()  # as the loop does: zombies make every look at /proc slow
            return not stage.members(run)

        await stage.until(nothing_left, "all of them are gone")
        await asyncio.sleep(0.1)
        assert stage.members(run) == set()

    play(tmp_path, scene)


def test_orphans_of_a_worker_are_reaped_once_they_end(tmp_path: Path) -> None:
    log = tmp_path / "pids"

    async def scene(stage: Stage) -> None:
        run = stage.launch(plan("w", *hostile("--log", str(log), "double-fork", "--leave")))
        await stage.told(Exited, run)
        (daemon,) = noted(log)["daemon"]
        assert read_stat(Path("/proc"), daemon).ppid == os.getpid()  # type: ignore[union-attr]
        await stage.killed(run)
        await stage.until(lambda: stage.launcher.reap_orphans() > 0, "it is reaped")
        assert not exists(daemon)

    play(tmp_path, scene)


def test_the_status_of_a_child_that_another_waits_for_is_not_stolen(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        helper = start("/bin/sh", "-c", "exit 3")  # in our own session
        apart = start("/bin/sh", "-c", "exit 4", setsid=True)
        run = stage.launch(plan("w", *hostile("--log", str(tmp_path / "pids"), "double-fork", "--leave")))
        for pid in (helper, apart):
            wait_unreaped(pid)
        await stage.told(Exited, run)
        (daemon,) = noted(tmp_path / "pids")["daemon"]
        await stage.killed(run)
        await stage.until(lambda: not alive(daemon), "it is killed")
        while exists(daemon):  # found behind the two that are not to be reaped
            stage.launcher.reap_orphans(protected={apart})
        assert exit_code(helper) == 3
        assert exit_code(apart) == 4

    play(tmp_path, scene)


def test_an_end_is_told_even_where_orphans_are_reaped_first(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        run = stage.launch(plan("w", *hostile("exit", "--code", "5")))
        pid = (await stage.told(Launched, run)).identity.pid
        wait_unreaped(pid)
        stage.launcher.reap_orphans()
        assert (await stage.told(Exited, run)).code == 5

    play(tmp_path, scene)


def test_a_process_is_held_only_while_boot_pid_and_start_time_are_its_own() -> None:
    mine = identify(os.getpid())
    held = hold(mine)
    assert held is not None
    os.close(held)
    assert hold(Identity(mine.boot_id, mine.pid, mine.start_ticks + 1)) is None
    assert hold(Identity("another-boot", mine.pid, mine.start_ticks)) is None
    assert hold(Identity(boot_id(Path("/proc")), 1 << 30, mine.start_ticks)) is None


def test_a_zombie_is_not_held() -> None:
    pid = start("/bin/true")
    wait_unreaped(pid)
    start_ticks = identify(pid).start_ticks
    assert hold_started(pid, start_ticks) is None
    assert exit_code(pid) == 0


def test_a_process_that_proc_hides_is_neither_taken_as_gone_nor_as_another(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot identify process"):
        hold_started(os.getpid(), 1, tmp_path)


def test_a_pid_that_passed_to_another_process_is_not_killed() -> None:
    pid = start("/bin/sleep", "100")
    start_ticks = identify(pid).start_ticks
    assert kill_tree(lambda: (Member(pid, start_ticks - 1),)) == 1
    assert alive(pid)
    kill_member(Member(pid, start_ticks))
    assert exit_code(pid) == -signal.SIGKILL


def test_the_daemon_never_kills_itself() -> None:
    kill_member(Member(os.getpid(), identify(os.getpid()).start_ticks))
