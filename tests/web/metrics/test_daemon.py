"""What a real daemon tells, as Prometheus is told it."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from supervisor.model.status import Status
from supervisor.web.metrics import render
from support.daemon import hostile
from support.fakenvml.state import GIB, FakeDriver
from support.watching import WatchedDaemon


@pytest.fixture
def daemon(tmp_path: Path, driver: FakeDriver) -> Iterator[WatchedDaemon]:
    made = WatchedDaemon(tmp_path, driver.environment)
    yield made
    made.close()


def page(daemon: WatchedDaemon) -> bytes:
    return render(msgspec.convert(daemon.status(), Status))


def series(content: bytes) -> dict[str, float]:
    """Return the values by name and the values of the labels, as in `worker_rung chat`."""
    return {
        " ".join((one.name.removeprefix("gpu_supervisor_"), *sorted(one.labels.values()))): one.value
        for family in text_string_to_metric_families(content.decode())
        for one in family.samples
    }


def test_the_memory_a_crash_and_the_turns_of_a_real_daemon_are_told(
    daemon: WatchedDaemon, driver: FakeDriver, promtool: str
) -> None:
    driver.gpu(0).used = 20 * GIB
    daemon.begin(f"  chat: {{command: {hostile('sleeper')}, gpus: [0], memory: {{cap: 1G}}}}\n")
    first = daemon.until_phase("chat", "ready")
    daemon.until_worker("chat", lambda one: one["memory_bytes"] is not None, "its memory is read")
    uuid = first["gpus"][0]
    content = page(daemon)
    before = series(content)
    assert before["up"] == 1
    assert before["worker_phase chat ready"] == 1
    assert 0 < before["worker_memory_bytes anon chat"] < before["worker_memory_cap_bytes chat"] == GIB
    assert before[f"gpu_memory_used_bytes 0 {uuid}"] == 20 * GIB
    assert before["worker_restarts_total chat crash"] == 0
    assert before["turn_duration_seconds_bucket +Inf"] == before["turn_duration_seconds_count"] > 0
    done = subprocess.run([promtool, "check", "metrics"], input=content, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")

    os.kill(first["pid"], signal.SIGKILL)
    daemon.until_worker("chat", lambda one: one["restarts"] == 1 and one["phase"] == "ready", "it is back")
    after = series(page(daemon))
    assert after["worker_restarts_total chat crash"] == 1
    assert after["turn_duration_seconds_count"] > before["turn_duration_seconds_count"]
