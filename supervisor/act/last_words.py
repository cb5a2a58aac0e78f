"""What a worker died of that ended by itself: its last lines are read, and never waited for long."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from typing import Final

from supervisor.act.output import shown
from supervisor.llama.exits import why_it_died
from supervisor.model.news import Exited
from supervisor.model.verdict import Verdict

# An end is told this much later at most; a file costs 1.5 ms (measured), the journal two runs of journalctl.
LATEST_S: Final = 0.5
LINES: Final = 200
WORDS_BYTES: Final = 64 << 10
# By its own fault. One that somebody ends, the kernel's OOM killer included, has no time for words.
OWN_FAULT: Final = frozenset(
    {signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGTRAP}
)


def may_tell(news: Exited) -> bool:
    """Say whether the last lines of a worker can tell why it ended, given how."""
    if news.oom_kill:
        return False
    return news.signal in OWN_FAULT if news.signal is not None else news.code != 0


async def verdict_of(read: Callable[[], Sequence[str]]) -> Verdict | None:
    """Return what the lines say that `read` returns, which may block and raise OSError; in a thread.

    None where they say nothing, cannot be read, or are late.
    """
    try:
        async with asyncio.timeout(LATEST_S):
            found = await asyncio.to_thread(lambda: why_it_died(read()))
    except (OSError, RuntimeError):  # TimeoutError is the first; the second: no thread can be started
        return None
    return None if found is None else Verdict(found.death, shown(found.line))
