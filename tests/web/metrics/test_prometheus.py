"""A real Prometheus scrapes the page by the job that is shipped, and reckons by the rules and dashboard."""

import http.client
import json
import re
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from supervisor.daemon.status import utc_text
from supervisor.model.status import Status
from supervisor.web.metrics import CONTENT_TYPE, render
from web.metrics.scene import ALERTS, full
from web.metrics.shipped import RULES, SCRAPE, Document, queries

PATIENCE_S = 30.0
TOKEN = "a-token-of-the-tests"
Found = TypeVar("Found")
Ask = Callable[[str], Document]


class Page(BaseHTTPRequestHandler):
    """What `gpu-supervisor web` serves at /metrics where a token is set: at each scrape one restart more."""

    scrapes = 0

    def do_GET(self) -> None:
        if self.headers["Authorization"] != f"Bearer {TOKEN}" or self.path != "/metrics":
            self.send_error(401)
            return
        Page.scrapes += 1
        content = render(living(Page.scrapes), ALERTS)
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it that
        """Say nothing."""


def living(times: int) -> Status:
    """Return a state of now, with so many restarts."""
    status = full()
    chat = msgspec.structs.replace(status.workers[0], restarts_by_cause={"vram-oom": times})
    workers = (chat, *status.workers[1:])
    return msgspec.structs.replace(status, workers=workers, taken_at=utc_text(time.time()))


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def ask(prometheus: str, target: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Yield a function that asks the API of a Prometheus that scrapes the page."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "token").write_text(TOKEN)
    job = re.sub(
        r"^    # (?=authorization:|  credentials_file:)", "    ", SCRAPE.read_text(), flags=re.MULTILINE
    )
    job = job.replace("127.0.0.1:8095", target).replace("scrape_interval: 15s", "scrape_interval: 200ms")
    job = job.replace("/etc/prometheus/gpu-supervisor-token", str(folder / "token"))
    config = folder / "prometheus.yml"
    config.write_text(f"global: {{evaluation_interval: 200ms}}\nrule_files: [{RULES}]\n{job}")
    log = folder / "log"
    command = [prometheus, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    command += ["--web.listen-address=127.0.0.1:0", "--log.level=info"]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as server:
        try:
            address = until(lambda: listening(log), log)
            yield lambda path: fetch(address, path)
        finally:
            server.terminate()


def listening(log: Path) -> str | None:
    found = re.search(r'msg="Listening on" address=(\S+)', log.read_text())
    return found[1] if found and "Server is ready to receive" in log.read_text() else None


def fetch(address: str, path: str) -> Document:
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", f"/api/v1/{path}")
        told: Document = json.load(connection.getresponse())
    finally:
        connection.close()
    assert told["status"] == "success"
    data: Document = told["data"]
    return data


def until(found: Callable[[], Found | None], about: object) -> Found:
    """Return what is found at last."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not (now := found()):
        assert time.monotonic() < deadline_s, about
        time.sleep(0.05)
    return now


def values(ask: Ask, query: str) -> list[tuple[dict[str, str], float]]:
    data = ask(f"query?query={urllib.parse.quote(query)}")
    return [(one["metric"], float(one["value"][1])) for one in data["result"]]


def test_the_job_that_is_shipped_scrapes_the_page_with_its_token(ask: Ask, target: str) -> None:
    labels = {"job": "gpu-supervisor", "instance": target}
    until(lambda: values(ask, "up") == [({"__name__": "up", **labels}, 1.0)], "the target is not up")
    assert values(ask, 'gpu_supervisor_worker_memory_bytes{worker="chat",kind="anon"} * 1') == [
        ({**labels, "worker": "chat", "kind": "anon"}, 2437393940.0)
    ]


def test_every_query_of_the_dashboard_finds_something(ask: Ask) -> None:
    until(lambda: values(ask, "rate(gpu_supervisor_worker_restarts_total[1m]) > 0"), "no rate yet")
    assert [name for name, query in queries() if not values(ask, query)] == []


def test_every_rule_can_be_reckoned_and_sees_what_is_there(ask: Ask) -> None:
    def states() -> dict[str, str]:
        rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
        assert {rule["health"] for rule in rules} <= {"ok", "unknown"}, rules
        return {rule["name"]: rule["state"] for rule in rules if rule["health"] == "ok"}

    expected = {
        "GPUMemoryExhaustion": "inactive",
        "HighMemoryUsage": "inactive",
        "HostMemoryLow": "inactive",
        "WorkerRestartLoop": "firing",
        "WorkerHeld": "pending",
        "DegradedWorker": "pending",
        "LeakForecast": "inactive",
        "GPUHot": "pending",
        "GPUQuarantined": "inactive",
        "SupervisorStale": "inactive",
    }
    until(lambda: states() == expected, "the rules stand otherwise")
