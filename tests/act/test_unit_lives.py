"""How the end of a unit's life is told, from its state and its last words; without a systemd."""

import asyncio
from collections.abc import Callable, Sequence

from supervisor.act.unit_lives import UnitLife, UnitLives
from supervisor.model.action import Launch
from supervisor.model.news import Asked, Exited, News
from supervisor.model.plan import WorkerPlan
from supervisor.model.verdict import Death, Verdict
from supervisor.systemd.bus import UnitState

EXITED, KILLED = 1, 2  # si_code of waitid(2)
BAD_FLAG = "error: invalid argument: --no-such-flag"
FAILED = UnitState(active="failed", result="exit-code", code=EXITED, status=1, invocation="5ca1ab1e")


def life(**more: bool | str) -> UnitLife:
    order = Launch("chat", "r-1", WorkerPlan("chat", "chat", ("serve",)), {}, None, "a test")
    return UnitLife(order, "gpu-worker-chat.service", **more)  # type: ignore[arg-type]


def told(
    scene: Callable[[UnitLives], None], words: Callable[[str, str], Sequence[str]], count: int = 1
) -> list[News]:
    """Play a scene, and return the first news that were told."""

    async def played() -> list[News]:
        news = asyncio.Queue[News]()
        lives = UnitLives(news.put_nowait, print, lambda: None, asyncio.get_running_loop(), words)
        try:
            scene(lives)
            async with asyncio.timeout(10.0):
                return [await news.get() for _ in range(count)]
        finally:
            lives.close()

    return asyncio.run(played())


def test_an_end_by_itself_is_told_with_what_the_journal_says_of_that_invocation() -> None:
    asked: list[tuple[str, str]] = []

    def words(worker: str, invocation: str) -> tuple[str, ...]:
        asked.append((worker, invocation))
        return ("starting", BAD_FLAG)

    def scene(lives: UnitLives) -> None:
        one = life(running=True, invocation="5ca1ab1e")
        lives.begin(one)
        lives.end(one, FAILED)

    expected = Exited("chat", "r-1", code=1, verdict=Verdict(Death.BAD_ARGUMENTS, BAD_FLAG))
    assert told(scene, words) == [expected]
    assert asked == [("chat", "5ca1ab1e")]


def test_one_that_was_gone_before_it_could_be_followed_has_its_words_too() -> None:
    def scene(lives: UnitLives) -> None:
        one = life()
        lives.begin(one)
        lives.end(one, FAILED)

    [news] = told(scene, lambda _worker, invocation: (BAD_FLAG,) if invocation == "5ca1ab1e" else ())
    assert isinstance(news, Exited)
    assert news.verdict == Verdict(Death.BAD_ARGUMENTS, BAD_FLAG)


def test_an_end_that_was_asked_for_is_told_at_once_without() -> None:
    def words(_worker: str, _invocation: str) -> tuple[str, ...]:
        raise AssertionError("nobody needs to know")

    def scene(lives: UnitLives) -> None:
        one = life(running=True, invocation="5ca1ab1e", signalled=True)
        lives.begin(one)
        lives.end(one, FAILED)

    assert told(scene, words) == [Exited("chat", "r-1", code=1)]


def test_a_journal_that_cannot_be_read_takes_nothing_from_the_end() -> None:
    def words(_worker: str, _invocation: str) -> tuple[str, ...]:
        raise FileNotFoundError("there is no journalctl")

    def scene(lives: UnitLives) -> None:
        one = life(running=True, invocation="5ca1ab1e")
        lives.begin(one)
        lives.end(one, FAILED)

    assert told(scene, words) == [Exited("chat", "r-1", code=1)]


def test_what_was_started_by_hand_meanwhile_is_told_after_the_end() -> None:
    def scene(lives: UnitLives) -> None:
        one = life(running=True, invocation="5ca1ab1e")
        lives.begin(one)
        lives.end(one, FAILED)
        lives.changed(one.unit, UnitState(active="active", main_pid=1, invocation="another"))

    first, second = told(scene, lambda _worker, _invocation: (BAD_FLAG,), count=2)
    assert isinstance(first, Exited)
    assert isinstance(second, Asked)
    assert (second.wish, second.workers) == ("start", ("chat",))
