"""A daemon that is watched closely: asked over its socket many times a second, read back from its log."""

import json
from collections.abc import Sequence
from itertools import pairwise

from supervisor.cli.client import Client
from support.daemon import Daemon, Document

# Two of three readings over a cap; one would do, but the rule is part of what is tested.
HEAD = """
poll_interval: 100ms
launcher: direct
host: {warn_available: 64M, critical_available: 32M}
defaults:
  breach: {samples: 2, of: 3, warm_up: 0s}
  restart: {first: 50ms, max: 200ms, starts: 100, within: 1h}
  stop_timeout: 2s
  max_age_jitter: 0%
"""


class WatchedDaemon(Daemon):
    """Asks for the status in this process: a command takes a tenth of a second to start."""

    def begin(self, workers: str, head: str = "") -> None:
        """Start with these workers."""
        text = f"{HEAD}{head}workers:\n{workers}"
        self.configure(text.replace("NOTES", str(self.notes)).replace("FOLDER", str(self.folder)))
        self.start()

    def status(self) -> Document:
        client = Client(self.folder / "run" / "control", "ask in a test")
        try:
            document: Document = json.loads(client.status_document())
        finally:
            client.close()
        return document

    def gpu(self, index: int) -> Document:
        """Return what is shown of the GPU at `index`."""
        found: Document = next(one for one in self.status()["gpus"] if one["index"] == index)
        return found

    def pid(self, name: str) -> int:
        """Return the main process of a worker."""
        pid: int = self.worker(name)["pid"]
        return pid

    def told(self, event: str, worker: str | None = None) -> list[Document]:
        """Return the lines of the log that say `event`, of one worker or of anybody."""
        return [
            one
            for one in self.events()
            if one["event"] == event and (worker is None or one.get("worker") == worker)
        ]

    def downs(self, workers: Sequence[str]) -> list[tuple[str, int, int | None]]:
        """Return when each worker was down, in lines of the log: from its end to its next readiness."""
        found: list[tuple[str, int, int | None]] = []
        since: dict[str, int] = {}
        for line, one in enumerate(self.events()):
            name = one.get("worker", "")
            if name not in workers:
                continue
            if one["event"] in {"worker draining", "worker stopping", "worker killing", "worker exited"}:
                since.setdefault(name, line)
            elif one["event"] == "worker ready" and name in since:
                found.append((name, since.pop(name), line))
        return sorted(
            [*found, *((name, line, None) for name, line in since.items())], key=lambda down: down[1]
        )


def overlapping(downs: Sequence[tuple[str, int, int | None]]) -> list[tuple[str, str]]:
    """Return the neighbours of a list of downs of which the second began before the first had ended."""
    return [(one[0], other[0]) for one, other in pairwise(downs) if one[2] is None or other[1] < one[2]]
