from supervisor.daemon.recent import KEPT, Recent
from supervisor.model.action import Notice
from supervisor.model.event import Told
from supervisor.model.news import Reported
from supervisor.model.phase import Cause
from supervisor.model.report import Progress, Report


def job(state: str, job: str = "batch-1", done: int = 0, worker: str = "chat") -> Reported:
    progress = Progress(job=job, state=state, position=2, done=done, total=100, eta_s=9.0)  # type: ignore[arg-type]
    return Reported(worker, "r1", Report(v=1, progress=progress), heard_s=1.0)


def test_a_notice_is_told_with_its_number_and_its_cause() -> None:
    recent = Recent("a")
    recent.notice(
        Notice("warning", "worker stopping", "8.1GiB, cap 8GiB", "chat", cause=Cause.MEMORY_CAP), 5.0
    )
    told = recent.since("a", 0)
    assert told.epoch == "a"
    assert (told.last, told.missed) == (1, 0)
    assert told.events == (
        Told(1, 5.0, "warning", "worker stopping", "8.1GiB, cap 8GiB", "chat", cause="memory-cap"),
    )


def test_only_what_is_new_is_told_to_who_comes_again() -> None:
    recent = Recent("a")
    for number in range(3):
        recent.notice(Notice("info", "event", str(number)), 5.0)
    assert [told.reason for told in recent.since("a", 2).events] == ["2"]
    assert recent.since("a", 3).events == ()


def test_what_only_a_developer_asks_for_is_not_told() -> None:
    recent = Recent("a")
    recent.notice(Notice("debug", "probe", "200"), 5.0)
    assert recent.since("a", 0).last == 0


def test_who_asks_with_the_number_of_an_earlier_daemon_is_told_all() -> None:
    recent = Recent("b")
    recent.notice(Notice("info", "supervisor started", ""), 5.0)
    told = recent.since("a", 4711)
    assert (told.epoch, told.last, told.missed, len(told.events)) == ("b", 1, 0, 1)


def test_what_had_to_make_room_is_counted_as_missed() -> None:
    recent = Recent("a")
    for number in range(KEPT + 10):
        recent.notice(Notice("info", "event", str(number)), 5.0)
    told = recent.since("a", 5, limit=3)
    assert [one.seq for one in told.events] == [KEPT + 8, KEPT + 9, KEPT + 10]
    assert told.missed == KEPT + 10 - 5 - 3


def test_each_step_of_a_job_is_told_once_with_its_position_and_estimate() -> None:
    recent = Recent("a")
    recent.hear([job("queued")], 1.0)
    recent.hear([job("queued"), job("processing", done=1)], 2.0)
    recent.hear([job("processing", done=50)], 3.0)
    recent.hear([job("completed", done=100)], 4.0)
    told = recent.since("a", 0).events
    assert [(one.event, one.worker, one.wall_s) for one in told] == [
        ("job queued", "chat", 1.0),
        ("job processing", "chat", 2.0),
        ("job completed", "chat", 4.0),
    ]
    assert told[0].job == Progress("batch-1", "queued", position=2, done=0, total=100, eta_s=9.0)


def test_another_job_in_the_same_state_is_a_step_and_so_is_that_of_another_worker() -> None:
    recent = Recent("a")
    recent.hear([job("processing", "one"), job("processing", "one", worker="embed")], 1.0)
    recent.hear([job("processing", "two")], 2.0)
    assert [(one.worker, one.reason) for one in recent.since("a", 0).events] == [
        ("chat", "one"),
        ("embed", "one"),
        ("chat", "two"),
    ]
