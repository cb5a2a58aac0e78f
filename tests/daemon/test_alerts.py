"""Alerts of a real daemon: a stand-in for the driver, real HTTP servers and commands, a real Alertmanager."""

import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.cli.client import Client
from supervisor.model.alert import AlertStatus
from support.daemon import Document, hostile
from support.fakenvml.state import FakeDriver
from support.probing import free_port
from support.receiving import Received, receiving, until
from support.watching import HEAD, WatchedDaemon

SLEEPER = hostile("sleeper")
FULL = '{name: Full, when: "gpu.used > 95%", severity: critical, runbook: docs/x.md}'


@pytest.fixture
def daemon(tmp_path: Path, driver: FakeDriver) -> Iterator[WatchedDaemon]:
    made = WatchedDaemon(tmp_path, driver.environment)
    yield made
    made.close()


@pytest.fixture
def server() -> Iterator[Received]:
    with receiving() as received:
        yield received


def begin(daemon: WatchedDaemon, rules: str, *notify: str) -> None:
    daemon.configure(HEAD + written(rules, *notify) + "workers: {}\n")
    daemon.start()


def written(rules: str, *notify: str) -> str:
    return f"alerts:\n  rules: [{rules}]\n  notify: [{', '.join(notify)}]\n"


def plain(server: Received) -> str:
    return f'{{webhook: "{server.url}", format: json}}'


def alerts(daemon: WatchedDaemon) -> tuple[AlertStatus, ...]:
    client = Client(daemon.folder / "run" / "control", "ask in a test")
    try:
        return client.alerts()
    finally:
        client.close()


def fill(driver: FakeDriver, share: float) -> None:
    gpu = driver.gpu(0)
    gpu.used = int(gpu.total * share)


def test_a_full_gpu_is_told_and_that_it_is_so_no_more(
    daemon: WatchedDaemon, driver: FakeDriver, server: Received
) -> None:
    begin(daemon, FULL, plain(server))
    daemon.until(lambda: bool(daemon.status()["gpus"]), "the GPUs are read")
    assert alerts(daemon) == ()

    fill(driver, 0.97)
    until(lambda: len(server.documents) == 1, "it is told")
    (told,) = server.documents[0]["alerts"]
    assert (told["name"], told["state"], told["gpu"], told["threshold"]) == (
        "Full",
        "firing",
        daemon.gpu(0)["uuid"],
        95.0,
    )
    assert 96.9 < told["value"] < 97.1
    assert told["summary"] == "GPU 0: gpu.used 97% (gpu.used > 95%)"
    (shown,) = alerts(daemon)
    assert (shown.name, shown.state, shown.runbook) == ("Full", "firing", "docs/x.md")

    fill(driver, 0.5)
    until(lambda: len(server.documents) == 2, "that it is over is told")
    assert server.alerts() == [("Full", "firing"), ("Full", "resolved")]
    assert [one.state for one in alerts(daemon)] == ["resolved"]
    (incident,) = json.loads(daemon.run("history", "--json").stdout)["incidents"]
    assert incident["gpu"] == told["gpu"]
    assert incident["outcome"].startswith("resolved after ")
    assert "  Full  " in daemon.run("history").stdout
    assert [one["level"] for one in daemon.told("alert firing")] == ["error"]


def test_a_gpu_that_cannot_be_read_resolves_nothing(
    daemon: WatchedDaemon, driver: FakeDriver, server: Received
) -> None:
    begin(daemon, FULL + ", {name: Bad, when: gpu.state != ok}", plain(server))
    fill(driver, 0.97)
    until(lambda: server.alerts() == [("Full", "firing")], "it is told")
    for call in driver.gpu(0).faults:
        call.answer = 15
    until(lambda: ("Bad", "firing") in server.alerts(), "that it is lost is told")
    assert {one.name: (one.state, one.value is None) for one in alerts(daemon)} == {
        "Full": ("firing", True),
        "Bad": ("firing", True),
    }
    for call in driver.gpu(0).faults:
        call.answer = 0
    until(lambda: ("Bad", "resolved") in server.alerts(), "that it is back is told")
    assert ("Full", "resolved") not in server.alerts()


def test_the_next_daemon_tells_nothing_as_new_and_resolves_what_is_over(
    daemon: WatchedDaemon, driver: FakeDriver, server: Received
) -> None:
    rules = FULL + ', {name: Other, when: "gpu.temperature > 90C"}'
    begin(daemon, rules, plain(server))
    fill(driver, 0.97)
    until(lambda: len(server.documents) == 1, "it is told")
    daemon.kill()
    daemon.start()
    daemon.until(lambda: [one.state for one in alerts(daemon)] == ["firing"], "it still fires")
    driver.gpu(0).temperature = 95
    until(lambda: len(server.documents) == 2, "another one is told")
    daemon.kill()
    fill(driver, 0.5)
    daemon.start()
    until(lambda: len(server.documents) == 3, "that it is over is told")
    assert server.alerts() == [("Full", "firing"), ("Other", "firing"), ("Full", "resolved")]


def test_what_fires_outlives_the_runtime_directory_as_well(
    daemon: WatchedDaemon, driver: FakeDriver, server: Received
) -> None:
    begin(daemon, FULL, plain(server))
    fill(driver, 0.97)
    until(lambda: len(server.documents) == 1, "it is told")
    assert daemon.stop() == 0
    shutil.rmtree(daemon.folder / "run")
    fill(driver, 0.5)
    daemon.start()
    until(lambda: len(server.documents) == 2, "that it is over is told")
    assert server.alerts() == [("Full", "firing"), ("Full", "resolved")]


def test_what_is_remembered_of_alerts_may_be_damaged(
    daemon: WatchedDaemon, driver: FakeDriver, server: Received
) -> None:
    begin(daemon, FULL, plain(server))
    fill(driver, 0.97)
    until(lambda: len(server.documents) == 1, "it is told")
    daemon.kill()
    (daemon.folder / "run" / "memory" / "_alerts.json").write_bytes(b'{"rules": [{"name": 5}]}')
    daemon.start()
    until(lambda: len(server.documents) == 2, "it is told anew")
    assert server.alerts() == [("Full", "firing"), ("Full", "firing")]
    (warning,) = daemon.told("degraded")
    assert "_alerts.json" in warning["reason"]
    assert warning["reason"].endswith("; alerts that fire are told anew")


def test_a_reload_resolves_what_its_rules_no_longer_say_and_tells_a_new_receiver(
    daemon: WatchedDaemon, driver: FakeDriver, server: Received
) -> None:
    rules = FULL + ', {name: Warm, when: "gpu.temperature > 30C"}'
    begin(daemon, rules, plain(server))
    fill(driver, 0.97)
    until(lambda: len(server.alerts()) == 3, "it is told of one GPU, and of two")
    with receiving() as new:
        text = daemon.config.read_text()
        changed = text.replace(rules, '{name: Warm, when: "gpu.temperature > 30C"}')
        daemon.configure(changed.replace("notify: [", f"notify: [{plain(new)}, "))
        done = daemon.run("reload")
        assert done.returncode == 0
        until(lambda: ("Full", "resolved") in server.alerts(), "that its rule is gone is told")
        until(lambda: ("Warm", "firing") in new.alerts(), "the new receiver is told what fires")
        assert server.alerts().count(("Warm", "firing")) == 2  # as before
        assert "hunter2" not in done.stdout + daemon.log()


def test_a_dead_receiver_holds_up_nobody_and_is_told_once_it_is_back(
    daemon: WatchedDaemon, driver: FakeDriver, server: Received
) -> None:
    port = free_port()
    dead = f'{{webhook: "http://127.0.0.1:{port}/hooks/hunter2", format: json}}'
    begin(daemon, FULL, dead, plain(server))
    fill(driver, 0.97)
    until(lambda: len(server.documents) == 1, "the other one is told")
    daemon.until(lambda: bool(daemon.told("alert receiver fails")), "that it fails is told")
    fill(driver, 0.5)
    until(lambda: len(server.documents) == 2, "the other one is told again")
    with receiving(port) as back:
        until(lambda: bool(back.documents), "it is told")
        assert back.alerts() == [("Full", "resolved")]
    daemon.until(lambda: bool(daemon.told("alert receiver works again")), "that it works is told")
    assert len(daemon.told("alert receiver fails")) == 1
    assert "hunter2" not in daemon.log()


def test_a_receiver_that_hangs_does_not_stop_the_loop(
    daemon: WatchedDaemon, driver: FakeDriver, server: Received
) -> None:
    server.hold.set()
    begin(daemon, FULL, plain(server))
    fill(driver, 0.97)
    until(lambda: len(server.documents) == 1, "it has been asked")
    turns = daemon.status()["supervisor"]["turns"]
    daemon.until(lambda: daemon.status()["supervisor"]["turns"] > turns + 10, "the loop goes round")


def test_a_command_pages(daemon: WatchedDaemon, driver: FakeDriver, tmp_path: Path) -> None:
    script, out = tmp_path / "page", tmp_path / "paged"
    script.write_text(
        f'#!/bin/sh\n{{ echo "$GPU_SUPERVISOR_ALERT_STATE $1"; cat; }} >> {out}.part\nmv {out}.part {out}\n'
    )
    script.chmod(0o755)
    begin(daemon, FULL, f"{{command: [{script}, 'a b; exit 1']}}")
    fill(driver, 0.97)
    until(out.exists, "it is paged")
    first, document = out.read_text().splitlines()
    assert first == "firing a b; exit 1"
    assert json.loads(document)["summary"] == "GPU 0: gpu.used 97% (gpu.used > 95%)"
    daemon.until(lambda: bool(daemon.told("alert firing")), "it is in the log")
    assert daemon.told("alert receiver fails") == []


def test_a_worker_that_is_held_is_told_with_its_name(daemon: WatchedDaemon, server: Received) -> None:
    rules = "{name: WorkerHeld, when: worker.held}, {name: Loop, when: worker.failures >= 2}"
    head = written(rules, plain(server))
    restart = "restart: {first: 10ms, max: 20ms, starts: 3, within: 1h}"
    daemon.begin(f"  bad: {{command: [/bin/false], {restart}}}\n  good: {{command: {SLEEPER}}}\n", head)
    until(lambda: ("WorkerHeld", "firing") in server.alerts(), "it is told")
    told = [one for document in server.documents for one in document["alerts"]]
    assert {one["worker"] for one in told} == {"bad"}
    daemon.run("reset", "bad", "--no-wait")


def test_a_dry_run_tells_nobody(daemon: WatchedDaemon, driver: FakeDriver, server: Received) -> None:
    fill(driver, 0.97)
    daemon.configure("poll_interval: 100ms\n" + written(FULL, plain(server)) + "workers: {}\n")
    command = subprocess.Popen(
        [sys.executable, "-m", "supervisor", "run", "--dry-run", "--config", str(daemon.config)],
        env=daemon.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert command.stderr is not None
    lines: list[Document] = []
    for line in command.stderr:
        lines.append(json.loads(line))
        if lines[-1]["event"] == "alert firing":
            break
    command.terminate()
    rest = command.communicate(timeout=20)[1]
    assert lines[-1]["event"] == "alert firing", rest
    assert server.documents == []


def ask(url: str) -> Any:  # noqa: ANN401 - a JSON document
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - it is our own
        return json.loads(answer.read())


@pytest.fixture
def alertmanager(tmp_path: Path, require: Callable[[object, str], None]) -> Iterator[str]:
    program = shutil.which("prometheus-alertmanager")
    require(program, "no prometheus-alertmanager")
    port = free_port()
    config = tmp_path / "alertmanager.yml"
    config.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    listen = f"127.0.0.1:{port}"
    with (tmp_path / "alertmanager.log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(program),
                f"--config.file={config}",
                f"--storage.path={tmp_path / 'alertmanager'}",
                f"--web.listen-address={listen}",
                "--cluster.listen-address=",
            ],
            stdout=log,
            stderr=log,
        )
    url = f"http://{listen}/api/v2/alerts"

    def up() -> bool:
        try:
            return bool(ask(url) == [])
        except OSError:
            return False

    try:
        until(up, "the Alertmanager answers", 30.0)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def test_an_alertmanager_takes_an_alert_and_shows_it_until_it_is_resolved(
    daemon: WatchedDaemon, driver: FakeDriver, alertmanager: str
) -> None:
    begin(daemon, FULL, f'{{webhook: "{alertmanager}"}}')
    fill(driver, 0.97)
    until(lambda: len(ask(alertmanager)) == 1, "it is shown")
    (alert,) = ask(alertmanager)
    labels, uuid = alert["labels"], daemon.gpu(0)["uuid"]
    assert (labels["alertname"], labels["severity"], labels["gpu"]) == ("Full", "critical", uuid)
    assert alert["annotations"]["summary"] == "GPU 0: gpu.used 97% (gpu.used > 95%)"
    assert alert["annotations"]["runbook_url"] == "docs/x.md"
    assert alert["status"]["state"] in {"active", "unprocessed"}
    assert alert["generatorURL"] == "http://127.0.0.1:8095/"

    fill(driver, 0.5)
    until(lambda: ask(alertmanager) == [], "it is resolved there")
    assert daemon.told("alert receiver fails") == []
