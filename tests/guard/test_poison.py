import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guard.fake_supervisor import FakeSupervisor

CHECKOUT = Path(__file__).resolve().parents[2]
ILLEGAL = "CUDA error: an illegal memory access was encountered"
HEAD = """
import asyncio, atexit, logging, logging.handlers, os, sys, threading, time
from supervisor.guard import leave
atexit.register(print, "an exit handler has run")
error = RuntimeError("CUDA error: an illegal memory access was encountered\\nsecond line")
"""
THREADS = {
    "the main thread": "leave(error)",
    "another thread": """
threading.Thread(target=leave, args=(error,)).start()
threading.Event().wait()
""",
    "a coroutine": """
async def serve():
    try:
        leave(error)
    except BaseException:
        print("caught")
async def main():
    await asyncio.gather(serve(), asyncio.sleep(3600), return_exceptions=True)
asyncio.run(main())
""",
    "a callback of a loop": """
loop = asyncio.new_event_loop()
loop.call_soon(leave, error)
loop.run_forever()
""",
    "a thread of a pool": """
async def main():
    await asyncio.to_thread(leave, error)
asyncio.run(main())
""",
    "a finally that never ends": """
try:
    leave(error)
finally:
    threading.Event().wait()
""",
}


@pytest.fixture
def there(tmp_path: Path) -> Iterator[FakeSupervisor]:
    there = FakeSupervisor(tmp_path / "w.sock")
    yield there
    there.go()


def run(program: str, socket_path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GPU_SUPERVISOR")}
    if socket_path is not None:
        environment["GPU_SUPERVISOR_SOCKET"] = str(socket_path)
    return subprocess.run(
        [sys.executable, "-c", HEAD + program],
        env={**environment, "PYTHONPATH": str(CHECKOUT)},
        check=False,
        capture_output=True,
        text=True,
        timeout=40,
    )


@pytest.mark.parametrize("program", THREADS.values(), ids=THREADS)
def test_a_poisoned_worker_tells_why_and_ends_with_79_from(program: str, there: FakeSupervisor) -> None:
    done = run(program, there.path)
    assert done.returncode == 79, done.stderr
    assert there.report()["poisoned"] == "RuntimeError: CUDA error: an illegal memory access was encountered"
    assert done.stdout == ""


def test_what_was_logged_and_printed_is_not_lost(tmp_path: Path, there: FakeSupervisor) -> None:
    log = tmp_path / "log"
    done = run(
        f"""
to = logging.FileHandler({str(log)!r})
logging.getLogger().addHandler(logging.handlers.MemoryHandler(1000, logging.FATAL + 1, to))
logging.getLogger().error("before")
print("printed", end="")
leave(error)
""",
        there.path,
    )
    assert done.returncode == 79
    assert done.stdout == "printed"
    assert log.read_text() == (
        "before\nthe GPU context is lost, leaving: "
        "RuntimeError: CUDA error: an illegal memory access was encountered\n"
    )


@pytest.mark.parametrize(
    "closed",
    [
        "sys.stdout.close(); sys.stderr.close()",
        "print('lost'); os.close(1); os.close(2)",
        "sys.stdout = sys.stderr = None",
    ],
)
def test_closed_streams_change_nothing(closed: str, there: FakeSupervisor) -> None:
    done = run(f"{closed}\nleave(error)", there.path)
    assert done.returncode == 79
    assert there.report()["poisoned"].startswith("RuntimeError: CUDA error")


@pytest.mark.parametrize("supervised", ["", "os.environ['GPU_SUPERVISOR_SOCKET'] = '/nonexistent/w.sock'"])
def test_a_worker_alone_ends_with_79_too(supervised: str) -> None:
    done = run(f"{supervised}\nleave(error)")
    assert done.returncode == 79
    assert "leaving: RuntimeError: CUDA error: an illegal memory access was encountered" in done.stderr


def test_a_log_that_another_thread_is_stuck_in_does_not_keep_the_worker(there: FakeSupervisor) -> None:
    done = run(
        """
handler = logging.StreamHandler()
logging.getLogger().addHandler(handler)
held = threading.Event()
def hold():
    handler.acquire()
    held.set()
    threading.Event().wait()
threading.Thread(target=hold, daemon=True).start()
held.wait()
leave(error)
""",
        there.path,
    )
    assert done.returncode == 79
    assert there.report()["poisoned"].startswith("RuntimeError")


def test_a_log_that_is_stuck_does_not_keep_a_runner_of_batches_either(there: FakeSupervisor) -> None:
    done = run(
        """
class Stuck(logging.Handler):
    def emit(self, record):
        threading.Event().wait()
logging.getLogger().addHandler(Stuck())
from supervisor.guard import BatchRunner
def function(items):
    raise error
list(BatchRunner(function).run(range(3)))
""",
        there.path,
    )
    assert (done.returncode, done.stdout) == (79, "")
    assert there.reports()[-1]["poisoned"] == f"RuntimeError: {ILLEGAL}"


def test_an_error_that_cannot_be_written_is_named_by_its_type(there: FakeSupervisor) -> None:
    done = run(
        """
class Lost(Exception):
    def __str__(self):
        raise RuntimeError("CUDA error")
leave(Lost())
""",
        there.path,
    )
    assert done.returncode == 79
    assert there.report()["poisoned"] == "Lost: "


FULL = """
from supervisor.guard import supervised
while supervised().poisoned("one of many"):
    pass
print("full", flush=True)
leave("the device is lost")
"""


def test_the_report_is_said_again_until_there_is_room(there: FakeSupervisor) -> None:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "GPU_SUPERVISOR_SOCKET": str(there.path)}
    said: set[str] = set()
    with subprocess.Popen(
        [sys.executable, "-c", HEAD + FULL], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"full\n"
        while worker.poll() is None:
            said.update(report["poisoned"] for report in there.reports())
    said.update(report["poisoned"] for report in there.reports())
    assert worker.returncode == 79
    assert said == {"one of many", "the device is lost"}


def test_a_queue_that_stays_full_does_not_keep_the_worker(there: FakeSupervisor) -> None:
    assert run(FULL, there.path).returncode == 79
    assert {report["poisoned"] for report in there.reports()} == {"one of many"}
