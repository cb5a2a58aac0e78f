"""The screen of `top`, with keys pressed, before a real control socket."""

import asyncio
import os
import pty
import select
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest
from rich.text import Text
from textual.pilot import Pilot
from textual.widgets import DataTable, Static

from supervisor.cli.command import CommandError
from supervisor.cli.top_screen import Top
from supervisor.cli.top_source import Source
from supervisor.model.action import Notice
from supervisor.model.status import Status
from support.command_line import environment, gpu_supervisor
from support.control_desk import StoryDesk, everything, serving, worker

Play = Callable[[Top, Pilot[None]], Awaitable[None]]


def on_screen(path: Path, play: Play) -> None:
    """Have the screen run without a terminal, and play a scene on it."""
    source = Source(str(path))
    app = Top(source, source.look())

    async def run() -> None:
        async with app.run_test(size=(140, 36)) as pilot:
            await pilot.pause()
            await play(app, pilot)

    asyncio.run(run())
    source.close()


async def until(pilot: Pilot[None], so: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + 20
    while not so():
        assert time.monotonic() < give_up_s, "it never came about"
        await pilot.pause(0.05)


def names(app: Top) -> list[str]:
    table = cast("DataTable[Text]", app.query_one("#workers", DataTable))
    return [str(table.get_row_at(number)[0]) for number in range(table.row_count)]


def text(app: Top, where: str) -> str:
    return str(app.query_one(where, Static).render())


def test_a_key_restarts_the_worker_under_the_cursor_once_it_is_confirmed(
    control: Path, desk: StoryDesk
) -> None:
    async def play(app: Top, pilot: Pilot[None]) -> None:
        assert names(app) == ["chat", "embed"]
        await pilot.press("down", "r", "n")
        await pilot.press("r", "y")
        await until(pilot, lambda: bool(desk.asked))

    on_screen(control, play)
    assert [(asked.wish, asked.workers, asked.reason) for asked in desk.asked] == [
        ("restart", ("embed",), "asked for in top")
    ]


def test_a_change_is_drawn_within_the_next_looks(control: Path, desk: StoryDesk) -> None:
    async def play(app: Top, pilot: Pilot[None]) -> None:
        desk.now = everything(worker("chat", "held", held="5 crashes"), worker("embed"), worker("new"))
        await until(pilot, lambda: names(app) == ["chat", "embed", "new"])
        await until(pilot, lambda: "held: 5 crashes" in text(app, "#detail"))

    on_screen(control, play)


def test_a_part_of_a_name_shows_only_those_until_escape(control: Path, desk: StoryDesk) -> None:
    del desk

    async def play(app: Top, pilot: Pilot[None]) -> None:
        await pilot.press("slash", "e", "m", "enter")
        await until(pilot, lambda: names(app) == ["embed"])
        assert "of 'em'" in text(app, "#machine")
        await pilot.press("escape")
        await until(pilot, lambda: names(app) == ["chat", "embed"])

    on_screen(control, play)


def test_a_daemon_that_goes_away_is_told_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "control"
    source_of = StoryDesk(everything(worker("chat")))
    with serving(path, source_of):
        source = Source(str(path))
        assert source.look().away is None
    seen = source.look()
    assert seen.away == f"cannot show the workers: the daemon is not running (nobody listens at {path})"
    assert [one.name for one in seen.status.workers] == ["chat"]
    later = source.look()
    assert later.away_since_s == seen.away_since_s
    with serving(path, StoryDesk(everything(worker("embed")))):
        assert source.look().away is None
        assert [one.name for one in source.look().status.workers] == ["embed"]
        source.close()


class HangingDesk(StoryDesk):
    """A desk whose daemon stands still while `goes` is not set."""

    def __init__(self) -> None:
        super().__init__(everything(worker("chat")))
        self.goes = threading.Event()
        self.goes.set()

    def status(self) -> Status:
        found = super().status()
        self.goes.wait(15)
        return found


@pytest.mark.slow
def test_a_daemon_that_hangs_is_told_and_asked_once(tmp_path: Path) -> None:
    path = tmp_path / "control"
    desk = HangingDesk()

    async def play(app: Top, pilot: Pilot[None]) -> None:
        looks = sum(thread.name.startswith("asyncio_") for thread in threading.enumerate())
        desk.goes.clear()
        await until(pilot, lambda: "nothing new: the daemon does not answer" in text(app, "#away"))
        now = sum(thread.name.startswith("asyncio_") for thread in threading.enumerate())
        assert now <= looks + 1
        desk.now = everything(worker("chat"), worker("embed"))
        desk.goes.set()
        await until(pilot, lambda: names(app) == ["chat", "embed"])
        assert not app.query_one("#away", Static).display

    try:
        with serving(path, desk):
            on_screen(path, play)
    finally:
        desk.goes.set()


def test_each_thing_is_told_once(control: Path, desk: StoryDesk) -> None:
    desk.recent.notice(Notice("info", "worker ready", "200", "chat"), 1.0)
    source = Source(str(control))
    assert [one.event for one in source.look().events] == ["worker ready"]
    desk.recent.notice(Notice("warning", "worker stopping", "cap", "chat"), 2.0)
    assert [one.event for one in source.look().events] == ["worker stopping"]
    assert source.look().events == ()
    source.close()


def test_a_wish_for_a_worker_that_is_gone_is_an_error_and_not_the_end(control: Path, desk: StoryDesk) -> None:
    del desk
    with pytest.raises(CommandError, match="cannot stop ghost: no worker is called 'ghost'"):
        Source(str(control)).ask("stop", "ghost")


def test_without_a_terminal_one_line_says_so(control: Path, desk: StoryDesk) -> None:
    del desk
    ran = gpu_supervisor("top", control=control)
    assert (ran.code, ran.err) == (
        2,
        "gpu-supervisor: cannot show the workers: top needs a terminal; see `status --watch`\n",
    )


@pytest.mark.slow
def test_on_a_real_terminal_it_draws_and_q_ends_it(control: Path, desk: StoryDesk) -> None:
    del desk
    master, slave = pty.openpty()
    found = environment(TERM="xterm-256color", GPU_SUPERVISOR_CONTROL=str(control), LINES="30", COLUMNS="120")
    command = [sys.executable, "-m", "supervisor.cli.main", "top"]
    with subprocess.Popen(command, env=found, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        shown = b""
        give_up_s = time.monotonic() + 30
        while b"embed" not in shown:
            assert time.monotonic() < give_up_s, shown
            if select.select([master], [], [], 0.1)[0]:
                shown += os.read(master, 65536)
        os.write(master, b"q")
        while process.poll() is None:
            assert time.monotonic() < give_up_s, shown
            if select.select([master], [], [], 0.1)[0]:
                try:
                    shown += os.read(master, 65536)
                except OSError:  # the other end is closed
                    break
        assert process.wait(10) == 0
    os.close(master)
