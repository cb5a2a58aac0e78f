"""A tiny daemon that a test kills: it remembers one life, adopts it, and launches it where it is not there.

    python -m support.doomed DIRECTORY INSTANCE WORKER COMMAND...

The life is written down before its launch, as the real daemon does. Prints `run RUN pid PID` once the
worker runs, then waits.
"""

import asyncio
import sys
import time
from pathlib import Path

import msgspec

from supervisor.act.direct import DirectLauncher, LaunchPlaces
from supervisor.model.action import Launch
from supervisor.model.memory import Life
from supervisor.model.news import Exited, Launched, LaunchFailed, News
from supervisor.model.plan import WorkerPlan
from supervisor.sense.forest import Forest


def remember(file: Path, life: Life) -> None:
    """Write a life down, as a whole or not at all."""
    part = file.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(life))
    part.replace(file)


def _warn(text: str) -> None:
    sys.stderr.write(f"{text}\n")


async def main(directory: Path, instance: str, worker: str, command: tuple[str, ...]) -> None:
    """Be a daemon until killed."""
    told: list[News] = []
    places = LaunchPlaces(directory / "run", directory / "log", instance)
    launcher = DirectLauncher(places, Forest(), told.append, asyncio.get_running_loop(), _warn)
    file = directory / "life.json"
    life = msgspec.json.decode(file.read_bytes(), type=Life) if file.exists() else None
    found = await launcher.adopt({} if life is None else {worker: life})
    if life is None or worker not in found:
        plan = WorkerPlan(name=worker, base=worker, command=command)
        life = Life(f"{instance}-{worker}-{time.monotonic_ns()}", plan, 0.0, 0.0)
        remember(file, life)
        launcher.launch(Launch(worker, life.run, plan, {}, None, "a test"))
    for news in told:
        if isinstance(news, Launched):
            print("run", news.run, "pid", news.identity.pid, flush=True)  # noqa: T201 - its only output
        elif isinstance(news, LaunchFailed | Exited):
            print(news, flush=True)  # noqa: T201 - the same
    if found:
        print("run", life.run, "pid", found[worker].pid, flush=True)  # noqa: T201 - the same
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], tuple(sys.argv[4:])))
