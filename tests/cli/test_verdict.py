import pytest

from supervisor.cli.verdict import Verdict, verdict
from supervisor.model.news import Wish
from supervisor.model.status import WorkerStatus
from support.control_desk import worker

READY = worker("chat")
AGAIN = worker("chat", run="chat-2", pid=18000)
STOPPED = worker("chat", "stopped")
DONE = worker("chat", "stopped", done="exited with status 0 after 3.0 s")
WAITING = worker("chat", "waiting")
DRAINING = worker("chat", "draining", run="chat-1")
HELD = worker("chat", "held", held="5 starts within 10min")
WENT_DOWN = Verdict(good=False, text="it is stopped: somebody else wants it down")
WAS_HELD = Verdict(good=False, text="held: 5 starts within 10min")


@pytest.mark.parametrize(
    ("wish", "before", "now", "settled", "expected"),
    [
        ("start", STOPPED, READY, False, Verdict(good=True, text="ready, pid 17650")),
        ("start", READY, READY, False, Verdict(good=True, text="ready, pid 17650")),
        ("start", STOPPED, WAITING, True, None),
        ("start", STOPPED, STOPPED, False, None),
        ("start", STOPPED, STOPPED, True, WENT_DOWN),
        ("start", DONE, DONE, False, None),
        ("start", DONE, DONE, True, Verdict(good=True, text="done: exited with status 0 after 3.0 s")),
        ("start", STOPPED, HELD, False, WAS_HELD),
        ("start", HELD, HELD, False, None),
        ("start", HELD, HELD, True, WAS_HELD),
        ("stop", READY, READY, True, None),
        ("stop", READY, DRAINING, True, None),
        ("stop", READY, STOPPED, False, Verdict(good=True, text="stopped")),
        ("stop", STOPPED, STOPPED, False, Verdict(good=True, text="stopped")),
        ("stop", READY, HELD, False, WAS_HELD),
        ("stop", HELD, HELD, False, None),
        (
            "stop",
            READY,
            AGAIN,
            True,
            Verdict(good=False, text="it was started again: somebody else wants it up"),
        ),
        ("restart", READY, READY, True, None),
        ("restart", READY, DRAINING, True, None),
        ("restart", READY, AGAIN, False, Verdict(good=True, text="ready, pid 18000")),
        ("restart", READY, DONE, True, Verdict(good=True, text="done: exited with status 0 after 3.0 s")),
        ("restart", STOPPED, READY, False, Verdict(good=True, text="ready, pid 17650")),
        ("restart", READY, HELD, False, WAS_HELD),
        ("restart", HELD, HELD, False, None),
        ("restart", HELD, WAITING, False, None),
        ("restart", READY, STOPPED, True, WENT_DOWN),
        ("reset", HELD, WAITING, False, Verdict(good=True, text="released, waiting")),
        ("reset", HELD, HELD, False, None),
        ("reset", HELD, HELD, True, WAS_HELD),
        ("reset", READY, READY, False, Verdict(good=True, text="ready")),
    ],
)
def test_a_wish_is_judged_by_what_the_daemon_shows(
    wish: Wish,
    before: WorkerStatus,
    now: WorkerStatus,
    settled: bool,  # noqa: FBT001 - a column of the table
    expected: Verdict | None,
) -> None:
    assert verdict(wish, before, now, settled=settled) == expected
