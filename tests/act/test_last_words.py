"""What the launcher `direct` tells of a worker that ended by itself."""

import asyncio
import signal
import sys
import time
from pathlib import Path

import pytest

from supervisor.act.last_words import may_tell, verdict_of
from supervisor.act.runs import Run, Runs
from supervisor.act.worker_logs import WorkerLogs
from supervisor.model.news import Exited, Launched
from supervisor.model.verdict import Death, Verdict
from support.launching import Stage, hostile, plan, play

OOM = "CUDA error: out of memory"


def saying(*lines: str, end: str = "sys.exit(1)") -> tuple[str, ...]:
    """Return the command of a worker that prints lines and ends."""
    text = "\\n".join(lines)
    return (
        sys.executable,
        "-S",
        "-c",
        f"import os, sys; print({text!r}, flush=True); {end}".replace("\\\\n", "\\n"),
    )


@pytest.mark.parametrize(
    ("end", "how"),
    [
        ("sys.exit(1)", {"code": 1}),
        ("os.abort()", {"signal": signal.SIGABRT}),
    ],
)
def test_an_end_by_itself_is_told_with_what_its_lines_say(
    tmp_path: Path, end: str, how: dict[str, int]
) -> None:
    async def scene(stage: Stage) -> None:
        run = stage.launch(plan("chat", *saying("loading", OOM, "ggml-cuda.cu:96: CUDA error", end=end)))
        told = await stage.told(Exited, run)
        assert told == Exited("chat", run, verdict=Verdict(Death.VRAM_OOM, OOM), **how)  # type: ignore[arg-type]

    play(tmp_path, scene)


@pytest.mark.parametrize("end", ["sys.exit(0)", "os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 15)"])
def test_an_end_in_peace_or_by_somebody_else_is_told_without(tmp_path: Path, end: str) -> None:
    async def scene(stage: Stage) -> None:
        run = stage.launch(plan("chat", *saying(OOM, end=end)))
        assert (await stage.told(Exited, run)).verdict is None

    play(tmp_path, scene)


def test_an_end_that_was_asked_for_is_told_without(tmp_path: Path) -> None:
    deaf = "import signal; signal.signal(15, lambda *_: os.abort()); print(1, flush=True); signal.pause()"

    async def scene(stage: Stage) -> None:
        run = stage.launch(plan("chat", *saying(OOM, end=deaf)))
        log = WorkerLogs(tmp_path / "log").path("chat")
        await stage.until(lambda: log.exists() and len(log.read_text().splitlines()) == 2, "it listens")
        stage.signal(run)
        told = await stage.told(Exited, run)
        assert (told.signal, told.verdict) == (signal.SIGABRT, None)

    play(tmp_path, scene)


def test_the_lines_of_an_earlier_run_tell_nothing_of_this_one(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        first = stage.launch(plan("chat", *saying(OOM)))
        assert (await stage.told(Exited, first)).verdict is not None
        stage.forget(first)
        second = stage.launch(plan("chat", *saying("nothing of note")))
        assert (await stage.told(Exited, second)).verdict is None

    play(tmp_path, scene)


def test_a_worker_that_is_taken_over_is_judged_by_its_own_lines(tmp_path: Path) -> None:
    """Where its output begins is written down for the next daemon."""
    logs = WorkerLogs(tmp_path / "log")
    logs.path("chat").write_text(f"{OOM}\n")

    async def scene(stage: Stage) -> None:
        run = stage.launch(plan("chat", *hostile("sleeper")))
        await stage.told(Launched, run)
        kept = Runs(tmp_path / "run" / "runs").read("chat")
        assert isinstance(kept, Run)
        assert kept.output_at == len(OOM) + 1
        logs.begin("chat", kept.output_at)
        assert logs.last_words("chat") == ()
        with logs.path("chat").open("a") as file:
            file.write("failed to read magic\n")
        assert logs.last_words("chat") == ("failed to read magic",)

    play(tmp_path, scene)


def test_output_that_was_shortened_is_all_of_the_newest_run(tmp_path: Path) -> None:
    logs = WorkerLogs(tmp_path, limit_bytes=10)
    logs.path("chat").write_text("of an earlier run\n")
    logs.begin("chat")
    with logs.path("chat").open("a") as file:
        file.write("of this one\n")
        assert logs.last_words("chat") == ()  # not written yet
    assert logs.last_words("chat") == ("of this one",)
    assert logs.trim() == ()
    assert logs.last_words("chat") == ()
    logs.path("chat").write_text("it goes on, and on, and on\n")
    assert logs.last_words("chat") == ("it goes on, and on, and on",)


def test_only_the_last_lines_are_read(tmp_path: Path) -> None:
    logs = WorkerLogs(tmp_path)
    logs.path("chat").write_text("")
    logs.begin("chat")
    logs.path("chat").write_text("".join(f"{at}\n" for at in range(1_000_000)))
    words = logs.last_words("chat")
    assert (len(words), words[0], words[-1]) == (200, "999800", "999999")


def test_lines_that_cannot_be_read_say_nothing() -> None:
    def missing() -> tuple[str, ...]:
        raise FileNotFoundError

    assert asyncio.run(verdict_of(missing)) is None


def test_lines_that_come_too_late_say_nothing() -> None:
    async def scene() -> None:
        begun_s = time.monotonic()
        release = asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow() -> tuple[str, ...]:
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(20.0)
            return (OOM,)

        assert await verdict_of(slow) is None
        assert time.monotonic() - begun_s >= 0.5
        release.set()

    asyncio.run(scene())


def test_what_the_kernel_killed_has_no_words() -> None:
    assert not may_tell(Exited("chat", "r", signal=9, oom_kill=True))
    assert may_tell(Exited("chat", "r"))  # nobody saw how it ended: its lines are all there is
