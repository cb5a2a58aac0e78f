"""What wakes the loop, and what waits for the turn that comes anyway."""

import asyncio

from supervisor.daemon.mailbox import Mailbox
from supervisor.model.news import Notified, Reported
from supervisor.model.report import Progress, Report

BEAT = Notified("w", "r", watchdog=True)


def report(run: str = "r", *, done: int = 0, heard_s: float = 1.0, quiet: bool = True) -> Reported:
    progress = Progress(job="night", done=done)
    return Reported("w", run, Report(v=1, progress=progress), heard_s, quiet=quiet)


def wakes(mailbox: Mailbox) -> bool:
    """Say whether somebody who waits for a turn is woken, and not by the end of his time."""

    async def waited() -> bool:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await mailbox.wait(0.2)
        return loop.time() < began_s + 0.2

    return asyncio.run(waited())


def test_news_wake_and_quiet_reports_wait_for_the_next_turn() -> None:
    mailbox = Mailbox()
    mailbox.tell(report())
    assert not wakes(mailbox)
    assert mailbox.take() == ((), False)
    mailbox.tell(BEAT)
    assert wakes(mailbox)
    assert mailbox.take() == ((BEAT,), False)
    assert mailbox.take_reports() == (report(),)
    assert mailbox.take_reports() == ()


def test_of_many_quiet_reports_of_a_run_the_newest_state_waits() -> None:
    mailbox = Mailbox()
    for done in range(1000):
        mailbox.tell(report(done=done, heard_s=float(done)))
    mailbox.tell(report("r2"))
    assert mailbox.take_reports() == (report(done=999, heard_s=999.0), report("r2"))


def test_a_report_that_changes_something_asks_for_a_turn_and_takes_what_waited_along() -> None:
    mailbox = Mailbox()
    mailbox.tell(Reported("w", "r", Report(v=1, beat=True), 1.0, 1.0, quiet=True))
    mailbox.tell(report(heard_s=2.0, quiet=False))
    assert wakes(mailbox)
    assert mailbox.take() == ((), True)
    assert mailbox.take_reports() == (Reported("w", "r", report().report, 2.0, 1.0),)
